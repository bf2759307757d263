from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fastslow.run import checkpoint as checkpoints
from fastslow.run.checkpoint import Mark
from fastslow.run.state import LoopState
from fastslow.types import Candidate, Population, Rollout

MarkAt = Callable[[int], Mark]
KilledAt = Callable[[int, Callable[[], object]], bool]


@pytest.fixture
def mark_at(candidate: Callable[..., Candidate], rollout: Callable[..., Rollout]) -> MarkAt:
    def make(step: int) -> Mark:
        state = LoopState(step, step // 2, Population((candidate(),)), {("p", "c"): rollout()})
        return Mark(state, 10 * step, 5 * step, (f"slow_{step:06d}.parquet",))

    return make


def weights(text: str) -> Callable[[Path], None]:
    """A policy's save: two files, one of them in a folder of its own."""

    def save(folder: Path) -> None:
        (folder / "optimiser").mkdir()
        (folder / "weights.safetensors").write_text(text)
        (folder / "optimiser" / "state.safetensors").write_text(text)

    return save


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_checkpoint_holds_the_state_and_what_the_policy_saved(
    tmp_path: Path, mark_at: MarkAt
) -> None:
    assert checkpoints.latest(tmp_path) is None
    saved = checkpoints.save(tmp_path, mark_at(12), weights("w"), keep=1)
    assert saved.path == tmp_path / "step_000012"
    assert names(saved.path) == ["optimiser", "state.json", "weights.safetensors"]
    assert checkpoints.latest(tmp_path) == saved
    assert saved.state == mark_at(12).state


def test_the_latest_are_kept(tmp_path: Path, mark_at: MarkAt) -> None:
    for step in (1, 2, 999_999, 1_000_000):
        checkpoints.save(tmp_path, mark_at(step), weights("w"), keep=2)
    assert names(tmp_path) == ["step_1000000", "step_999999"]


def test_checkpoints_of_a_course_that_was_given_up_go(tmp_path: Path, mark_at: MarkAt) -> None:
    for step in (2, 4):
        checkpoints.save(tmp_path, mark_at(step), weights("w"), keep=2)
    (tmp_path / "step_000004" / "state.json").unlink()  # so the run goes on from step 2
    checkpoints.save(tmp_path, mark_at(3), weights("w"), keep=2)
    assert names(tmp_path) == ["step_000002", "step_000003"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path, mark_at: MarkAt) -> None:
    checkpoints.save(tmp_path, mark_at(2), weights("old"), keep=1)
    saved = checkpoints.save(tmp_path, mark_at(2), weights("new"), keep=1)
    assert (saved.path / "weights.safetensors").read_text() == "new"
    assert names(tmp_path) == ["step_000002"]


def _no_state(path: Path) -> None:
    (path / "state.json").unlink()


def _half_a_state(path: Path) -> None:
    text = (path / "state.json").read_text()
    (path / "state.json").write_text(text[: len(text) // 2])


def _another_json(path: Path) -> None:
    (path / "state.json").write_text("{}")


def _no_weights(path: Path) -> None:
    (path / "weights.safetensors").unlink()


def _short_weights(path: Path) -> None:
    (path / "optimiser" / "state.safetensors").write_text("")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_state, "No such file"),
        (_half_a_state, "Unterminated|Expecting"),
        (_another_json, "state.json has no 'files'"),
        (_no_weights, "weights.safetensors: No such file"),
        (_short_weights, "state.safetensors holds 0 bytes, not 1"),
        (shutil.rmtree, None),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path,
    mark_at: MarkAt,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    reason: str | None,
) -> None:
    sound = checkpoints.save(tmp_path, mark_at(2), weights("w"), keep=2)
    damage(checkpoints.save(tmp_path, mark_at(4), weights("w"), keep=2).path)
    assert checkpoints.latest(tmp_path) == sound
    if reason:
        (record,) = caplog.records
        assert "step_000004 is damaged" in record.getMessage()
        assert re.search(reason, record.getMessage())


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt(), ValueError("x")])
def test_a_save_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, mark_at: MarkAt, error: BaseException
) -> None:
    before = checkpoints.save(tmp_path, mark_at(2), weights("w"), keep=1)

    def fail(folder: Path) -> None:
        weights("half")(folder)
        raise error

    for step in (2, 4):
        with pytest.raises(type(error)):
            checkpoints.save(tmp_path, mark_at(step), fail, keep=1)
        assert checkpoints.latest(tmp_path) == before
        assert names(tmp_path) == ["step_000002"]
        assert (before.path / "weights.safetensors").read_text() == "w"


@pytest.mark.parametrize("step", [2, 4])  # the same step again, or a later one
def test_a_process_killed_at_any_moment_leaves_a_whole_checkpoint(
    tmp_path: Path, mark_at: MarkAt, killed_at: KilledAt, step: int
) -> None:
    moment, found = 0, set()
    while True:
        folder = tmp_path / str(moment)
        folder.mkdir()
        checkpoints.save(folder, mark_at(2), weights("old"), keep=1)
        killed = killed_at(
            moment,
            lambda folder=folder: checkpoints.save(folder, mark_at(step), weights("new"), keep=1),
        )
        checkpoints.recover(folder)
        latest = checkpoints.latest(folder)
        assert latest is not None
        text = (latest.path / "weights.safetensors").read_text()
        assert text == (latest.path / "optimiser" / "state.safetensors").read_text()
        assert latest.mark == mark_at(step if text == "new" else 2)
        assert not [name for name in names(folder) if name.startswith(".")]
        found.add(text)
        # What is left over does not stand in the way of the next one.
        checkpoints.save(folder, mark_at(6), weights("next"), keep=1)
        assert names(folder) == ["step_000006"]
        if not killed:
            break
        moment += 1
    assert moment > 10
    assert found == {"old", "new"}
