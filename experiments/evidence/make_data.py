"""Write the data of the made-up tasks: `python experiments/evidence/make_data.py`.

Both are made so that a context can carry more than a format. `dates`: a convention (the month's
number, a hyphen, the day) and what it needs, the months in order. `guilds`: a table of facts that
can be known from the context or from the weights, and from nowhere else; the questions that
validate ask for the same facts in other words.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).parent / "data"

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DATE_FORMS = ("Write {day} {month} as a code.", "Which code has {month} {day}?")

GUILDS = ("bakers", "sailors", "weavers", "smiths")
SYLLABLES = ("zor", "vel", "mik", "tan", "rul", "bex", "dor", "fin", "gal", "hes", "jun", "kol")
ENDINGS = ("a", "en", "is", "ov")
GUILD_FORMS = (
    "Which guild is {name} in: bakers, sailors, weavers or smiths?",
    "Bakers, sailors, weavers or smiths: where is {name} a member?",
    "Name the guild of {name}: bakers, sailors, weavers or smiths.",
    "{name} is with the bakers, the sailors, the weavers or the smiths. With whom?",
    "Is {name} of the bakers, sailors, weavers or smiths?",
    "To the bakers, sailors, weavers or smiths: which does {name} belong to?",
)


def dates() -> Iterable[tuple[str, str]]:
    """Days 1 to 28; the seed context shows two of later days."""
    for form, (number, month), day in product(DATE_FORMS, enumerate(MONTHS, 1), range(1, 29)):
        yield form.format(day=day, month=month), f"{number}-{day}"


def guilds() -> Iterable[tuple[str, str]]:
    """24 members, six in each guild."""
    names = [(start + end).capitalize() for start, end in product(SYLLABLES, ENDINGS)]
    members = random.Random(0).sample(names, 24)
    for form, (number, name) in product(GUILD_FORMS, enumerate(members)):
        yield form.format(name=name), GUILDS[number % len(GUILDS)]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for make in (dates, guilds):
        rows = [{"question": question, "answer": answer} for question, answer in make()]
        random.Random(1).shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (FOLDER / f"{make.__name__}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
