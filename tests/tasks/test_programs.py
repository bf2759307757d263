from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastslow.tasks import programs
from fastslow.tasks.programs import Call, Returned, outcomes, refusal, refusal_of_generator

needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sandbox needs Linux"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTSLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "programs"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import math\ndef f(x): return math.sqrt(x)", None),
        ("import random\ndef f(x): return x", None),
        ("def f(rng): return rng.random()", None),
        ("from random import Random\ndef f(s): return Random(s).random()", None),
        ("import random\ndef f(s):\n random.seed(s)\n return random.random()", None),
        ("import numpy as np\ndef f(s): return np.random.default_rng(s).random()", None),
        ("from datetime import date\ndef f(x): return date(x, 1, 1).isoformat()", None),
        ("import random\ndef f(x): return random.random()", "randomness without a seed"),
        ("import random\ndef f(x):\n random.seed()\n return 1", "randomness without a seed"),
        ("from random import choice\ndef f(x): return choice(x)", "randomness without a seed"),
        ("import numpy as np\ndef f(x): return np.random.rand()", "randomness without a seed"),
        ("import secrets\ndef f(x): return 1", "randomness without a seed"),
        ("import os.path\ndef f(x): return 1", "files"),
        ("def f(x): return open(x).read()", "files"),
        ("def f(x): return input()", "files"),
        ("from urllib.request import urlopen\ndef f(x): return 1", "network"),
        ("def f(x):\n import subprocess\n return 1", "processes"),
        ("import time\ndef f(x): return 1", "clock"),
        ("import datetime\ndef f(x): return datetime.datetime.now().year", "clock"),
        ("def f(x) return x", "no Python"),
        ("(" * 10_000, "no Python"),
        ("\x00", "no Python"),
    ],
)
def test_what_reaches_beyond_its_arguments_is_refused_unrun(code: str, reason: str | None) -> None:
    assert refusal(code) == reason


def test_a_generator_may_draw_but_not_reach_out() -> None:
    assert refusal_of_generator("import random\ndef g(rng): return random.random()") is None
    assert refusal_of_generator("def g(rng): return open('x')") == "files"


def call(body: str, **arguments: object) -> Call:
    return Call(f"import math, sys\ndef f(**a):\n{body}", "f", arguments)


GOOD = call("    return [a['x'] / 4, {'n': None}]", x=3)
RIGHT = Returned({"x": 3}, [0.75, {"n": None}])


@needs_linux
def test_one_program_spoils_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SECONDS", 0.3)
    stubborn = "    while True:\n        try: sum(iter(int, 1))\n        except: pass"
    hostile = {
        "    while True: pass": "time limit",
        stubborn: "time limit",
        "    return len(str(9**9**9))": "time limit",
        "    import os\n    os._exit(0)": "crash",
        "    import ctypes\n    ctypes.string_at(0)": "crash",
        "    sys.exit(0)": "SystemExit",
        "    return [0] * 10**12": "MemoryError",
        "    return f(**a)": "RecursionError",
        "    return {1, 2}": "no JSON value",
        "    return math.nan": "no JSON value",
        "    return [[]] * 2 if a else (x for x in a)": "no JSON value",
        "    return '9' * 3_000_000": "no JSON value",
        "    r = []\n    for _ in range(100): r = [r]\n    return r": "no JSON value",
        "    sys.setrecursionlimit(10**6)\n    math.floor = None\n    return id(object())": (
            "differs from run to run"
        ),
    }
    found = list(outcomes(one for body in hostile for one in (GOOD, call(body), GOOD)))
    assert found[1::3] == list(hostile.values())
    assert [one for index, one in enumerate(found) if index % 3 != 1] == [RIGHT] * 2 * len(hostile)


ADDRESSES = [
    "id(object())", "id([])", "id({})", "id(a)", "repr(object())", "str(f)", "repr(lambda: 0)",
    "hash(object())", "id((a,)) % 1024", "id(str(a) + 'yz') % 4096", "repr(iter([]))",
    "str(map(len, []))", "hash(f) % 65536", "id(float(len(a)) + 0.5)", "id(object) ^ id(object())",
    "[id(x) % 4096 for x in ([], {}, object())]", "repr(type('T', (), {})())", "id(b'a' * 40)",
    "id(None)", "hash(int)", "id('yz')", "id(len)", "str(sys.modules['json'].dumps)",
    "hash((1, int))", "'{}'.format(object())", "hash(type('T', (), {}))", "id(2 ** 70 + len(a))",
    "str(a.items)",
]  # fmt: skip
"""Values that depend on where objects lie."""


@needs_linux
def test_what_the_arguments_do_not_determine_is_left_out() -> None:
    undetermined = [
        call("    import random\n    return random.random()"),
        call("    return list({'ann', 'bob', 'cy', 'dee'})"),
        call("    return ''.join({c for c in 'seven words'})"),
        call("    return [x for x in {10, 3, 77, 1024, 5}]"),
        call("    best = None\n    for x in frozenset('abcd'): best = best or x\n    return best"),
        call("    sys.seen = getattr(sys, 'seen', 0) + 1\n    return sys.seen"),
        call("    sys.seen = hasattr(sys, 'seen')\n    return True if sys.seen else 1"),
        *(call(f"    return {value}") for value in ADDRESSES),
    ]
    determined = [
        (call("    return sorted({'b', 'a'}), len({1, 2}), sum({1, 2})"), [["a", "b"], 2, 3]),
        (call("    print('x')\n    sys.__stdout__.write('{}')\n    return {1: (2,)}"), {"1": [2]}),
        (call("    a['x'].append(1)\n    return a['x']", x=[]), [1]),
    ]
    found = list(outcomes([*undetermined, *(one for one, _ in determined)]))
    count = len(undetermined)
    assert found[:count] == ["differs from run to run"] * count
    for one, (asked, output) in zip(found[count:], determined, strict=True):
        assert one == Returned(asked.arguments or {}, output)


@needs_linux
def test_generated_arguments_follow_from_the_seed_alone() -> None:
    generator = (
        "import random\n"
        "def generate_inputs(rng: Random):\n"
        "    return {'x': (rng.random(), random.random()), 'n': {1: None}}"
    )
    calls = [Call("def f(x, n): return n", "f", None, generator, seed) for seed in (1, 2, 1)]
    one, other, again = outcomes(calls)
    assert isinstance(one, Returned)
    assert isinstance(other, Returned)
    assert one == again
    assert one.arguments["x"] != other.arguments["x"]
    assert one.output == {"1": None}, "the program is given what the question shows, plain JSON"


@needs_linux
def test_programs_run_once_and_a_damaged_cache_is_made_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = programs.Jail.run
    monkeypatch.setattr(programs.Jail, "run", lambda *a, **k: runs.append(1) or run(*a, **k))
    assert list(outcomes([GOOD])) == [RIGHT]
    assert len(runs) == 1
    assert list(outcomes([GOOD])) == [RIGHT]
    assert len(runs) == 1
    (file,) = cache.iterdir()
    for damaged in ("", "{}", "[]", "[1]", '["[1]", "[2]"]', file.read_text()[:-9]):
        file.write_text(damaged)
        assert list(outcomes([GOOD])) == [RIGHT]
    assert len(runs) == 7
    list(outcomes([call("    return 1")]))
    assert len(list(cache.iterdir())) == 2, "other programs have a file of their own"


@needs_linux
def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSLOW_CACHE", str(tmp_path / "file"))
    assert list(outcomes([GOOD])) == [RIGHT]
    assert "will be run again" in caplog.text


def test_what_a_program_returned_is_kept_for_the_same_libraries_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = [Call("def f(x):\n    return x", "f", {"x": 1})]
    before = programs._cache_file(calls)
    assert programs._cache_file(calls) == before
    monkeypatch.setattr(programs, "_environment", lambda: ["3.11", "numpy 2.0"])
    assert programs._cache_file(calls) != before
