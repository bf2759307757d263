"""Words of the vocabulary, made quickly; a disk that is full and a process that is killed."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from fastslow import testing
from fastslow.config import RunConfig, TaskConfig
from fastslow.testing import turn
from fastslow.types import Candidate, Context, Demonstration, Problem, Rollout, Verdict


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        model="smollm2-135m",
        task=TaskConfig(name="chain_sum", min_terms=2),
        steps=6,
        fast={"every": 2},
        log={"tensorboard": False},
    )


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    def make(instructions: str = "Answer.", **fields: object) -> Candidate:
        shown = (Demonstration("1 + 1?", "<answer>2</answer>", "p1"),)
        return Candidate(Context(instructions, shown), **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    def make(
        problem: Problem | str = "p", context: str = "c", text: str = "42", score: float = 1.0
    ) -> Rollout:
        said = turn(text, read=(1, 2, 3), sampled=(7, 8), logprobs=(-0.1, -2.5))
        return testing.rollout(problem, context, Verdict(score, "well done"), said, version=4)

    return make


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """``with largest_file(n)``: the system refuses to let a file of this process grow beyond n
    bytes, as a full disk would."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], bool]:
    """``killed_at(n, work)`` does ``work`` in a child process that dies at its n-th use of the file
    system, without a chance to clear up. Returns whether it got that far."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and of no effect on a mere kill

    def killed(moment: int, work: Callable[[], object]) -> bool:
        child = os.fork()
        if child == 0:
            seen = 0

            def die_in_time(event: str, _: object) -> None:
                nonlocal seen
                if event == "open" or event.split(".")[0] in ("os", "shutil"):
                    seen += 1
                    if seen > moment:
                        os._exit(9)

            status = 1
            try:
                sys.addaudithook(die_in_time)
                work()
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9)
        return status == 9

    return killed
