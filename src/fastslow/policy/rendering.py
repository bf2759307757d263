"""Renders a chat template. Also a script, which tries a template under limits on time and memory.

A template is a program that came with a model. It runs in Jinja's sandbox with the names that
transformers gives to it, except for what differs from run to run: the date is fixed, and nothing is
random. The sandbox does not bound time or memory, so ``try_out`` renders first in a process of its
own. The file imports nothing of the project, so that this process starts within 0.1 s.
"""

from __future__ import annotations

import datetime
import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

CPU_SECONDS = 5
MEMORY_BYTES = 2**30
MAX_CHARACTERS = 1_000_000
"""Limits on trying all conversations of ``try_out``. Templates in use need milliseconds."""

WALL_SECONDS = 120
"""A backstop: a busy machine takes long to grant the processor time."""

_OUT_OF_MEMORY, _TOO_LONG = 3, 4

Conversation = Sequence[Mapping[str, str]]


class Template:
    """A chat template, ready to render.

    Args:
        text: in Jinja.
        variables: what it may name beside the turns: the tokenizer's special tokens.
        date: the day that ``strftime_now`` tells, at midnight.

    Raises:
        jinja2.TemplateError: the text is no template.
    """

    def __init__(self, text: str, variables: Mapping[str, Any], date: datetime.date) -> None:
        environment = _environment(datetime.datetime.combine(date, datetime.time.min))
        self._template = environment.from_string(text)
        self._variables = dict(variables)
        parsed = environment.parse(text)
        self.literals: tuple[str, ...] = (
            *(node.data for node in parsed.find_all(nodes.TemplateData)),
            *(n.value for n in parsed.find_all(nodes.Const) if isinstance(n.value, str)),
        )
        """The texts that the template can write by itself, in the pieces that it is written in."""

    def render(self, turns: Conversation, *, prompt: bool) -> str:
        """The conversation as text; with ``prompt``, up to where the next answer begins.

        Raises: whatever the template raises.
        """
        return self._template.render(
            messages=[dict(turn) for turn in turns],
            tools=None,
            documents=None,
            add_generation_prompt=prompt,
            **self._variables,
        )


def try_out(
    text: str, variables: Mapping[str, Any], date: datetime.date, turns: Iterable[Conversation]
) -> str | None:
    """Why the template may not render these conversations in this process; None if it may.

    An error that the template raises is no reason: ``Template`` raises it again.
    """
    conversations = [[dict(turn) for turn in conversation] for conversation in turns]
    return _try_out(json.dumps([text, dict(variables), date.isoformat(), conversations]))


@lru_cache(maxsize=64)
def _try_out(task: str) -> str | None:
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=task.encode("ascii"),
            capture_output=True,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"takes longer than {WALL_SECONDS} s"
    if done.returncode == _TOO_LONG:
        return f"writes more than {MAX_CHARACTERS:,} characters for a conversation of a few words"
    if done.returncode == _OUT_OF_MEMORY:
        return f"takes more memory than {MEMORY_BYTES >> 20} MiB"
    if done.returncode != 0:  # killed by its limit, or crashed
        return f"takes longer than {CPU_SECONDS} s, or crashes, on a conversation of a few words"
    return None


def _environment(now: datetime.datetime) -> ImmutableSandboxedEnvironment:
    """As transformers makes it for a chat template, but with the time given."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=now.strftime,
        dict=_Dict(),
        namespace=_Namespace,
    )
    del environment.filters["random"]
    del environment.globals["lipsum"]
    return environment


class _Generation(Extension):
    """``{% generation %}`` encloses what the assistant said. It writes nothing by itself."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it as one of an instance)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """``dict`` without the attributes of a class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """A namespace that takes no names which begin with an underscore, as those of transformers."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as in Jinja: ``self`` may be an attribute
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no attribute that begins with _, as {name!r} does")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it. Jinja's own filter escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _main() -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    text, variables, date, conversations = json.load(sys.stdin)
    try:
        template = Template(text, variables, datetime.date.fromisoformat(date))
    except MemoryError:
        return _OUT_OF_MEMORY
    except Exception:
        return 0
    for conversation in conversations:
        for prompt in (True, False):
            try:
                if len(template.render(conversation, prompt=prompt)) > MAX_CHARACTERS:
                    return _TOO_LONG
            except MemoryError:
                return _OUT_OF_MEMORY
            except Exception:  # the caller meets it again
                continue
    return 0


if __name__ == "__main__":
    sys.exit(_main())
