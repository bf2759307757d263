from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastslow.errors import InputError
from fastslow.run import checkpoint as checkpoints
from fastslow.run.checkpoint import Mark
from fastslow.run.state import LoopState
from fastslow.types import Candidate, Context, Population, Problem, Rollout

MarkAt = Callable[[int], Mark]
KilledAt = Callable[[int, Callable[[], object]], bool]


@pytest.fixture
def mark_at(candidate: Callable[..., Candidate]) -> MarkAt:
    def make(step: int) -> Mark:
        state = LoopState(step, step // 2, Population((candidate(),)))
        return Mark(state, 10 * step, 5 * step, (f"slow_{step:06d}.parquet",))

    return make


def test_reusable_rollouts_come_back_with_their_problems(
    tmp_path: Path, mark_at: MarkAt, rollout: Callable[..., Rollout]
) -> None:
    mark = mark_at(2)
    one = replace(rollout(Problem("p", "?", {3})), context=mark.state.population.best.context)
    state = replace(mark.state, rollouts={one.key: one})
    saved = checkpoints.save(tmp_path, replace(mark, state=state), weights("w"))
    for found in (saved, checkpoints.load(saved.path)):
        assert found.state == mark.state
        assert found.state_with({"p": one.problem}) == state
        assert found.state_with({}) == mark.state


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
    saved = checkpoints.save(tmp_path, mark_at(12), weights("w"))
    assert saved.path == tmp_path / "step_000012"
    assert names(saved.path) == [
        "checksums.sha256",
        "optimiser",
        "state.json",
        "weights.safetensors",
    ]
    assert checkpoints.latest(tmp_path) == saved
    assert saved.state == mark_at(12).state
    assert saved.versions["torch"] == metadata.version("torch")
    assert saved.versions["python"] == platform.python_version()


def test_the_checksums_are_those_of_a_well_known_tool(tmp_path: Path, mark_at: MarkAt) -> None:
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("there is no sha256sum here")
    path = checkpoints.save(tmp_path, mark_at(2), weights("w")).path

    def check() -> int:
        command = [tool, "--check", "--strict", "--status", "checksums.sha256"]
        return subprocess.run(command, cwd=path, check=False).returncode

    assert check() == 0
    (path / "weights.safetensors").write_text("v")
    assert check() == 1


def saved(folder: Path, mark: Mark, keep: int, best: int | None = None) -> None:
    checkpoints.prune(folder, checkpoints.save(folder, mark, weights("w")), keep, best)


def test_the_latest_are_kept(tmp_path: Path, mark_at: MarkAt) -> None:
    for step in (1, 2, 999_999, 1_000_000):
        saved(tmp_path, mark_at(step), keep=2)
    assert checkpoints.steps(tmp_path) == [999_999, 1_000_000]
    assert names(tmp_path) == ["step_1000000", "step_999999"]


def test_what_is_kept_elsewhere_is_forgotten_before_a_checkpoint_goes(
    tmp_path: Path, mark_at: MarkAt
) -> None:
    told: list[tuple[str, bool]] = []
    for step in (1, 2, 3):
        current = checkpoints.save(tmp_path, mark_at(step), weights("w"))
    checkpoints.prune(tmp_path, current, 2, discard=lambda p: told.append((p.name, p.is_dir())))
    assert told == [("step_000001", True)]
    assert checkpoints.steps(tmp_path) == [2, 3]


@pytest.mark.parametrize(("best", "kept"), [(None, [3, 4]), (1, [1, 3, 4]), (4, [3, 4])])
def test_the_best_is_kept_beside_them(
    tmp_path: Path, mark_at: MarkAt, best: int | None, kept: list[int]
) -> None:
    for step in (1, 2, 3, 4):
        saved(tmp_path, mark_at(step), keep=2, best=best)
    assert checkpoints.steps(tmp_path) == kept


def test_checkpoints_of_a_course_that_was_given_up_go(tmp_path: Path, mark_at: MarkAt) -> None:
    for step in (2, 4):
        saved(tmp_path, mark_at(step), keep=2)
    (tmp_path / "step_000004" / "state.json").unlink()  # so the run goes on from step 2
    saved(tmp_path, mark_at(3), keep=2, best=4)
    assert names(tmp_path) == ["step_000002", "step_000003"]


def test_what_a_person_put_beside_them_is_left_alone(tmp_path: Path, mark_at: MarkAt) -> None:
    (tmp_path / "step_000002.bak").mkdir()
    saved(tmp_path, mark_at(4), keep=1)
    path = tmp_path / "step_000004"
    (path / ".DS_Store").touch()
    latest = checkpoints.latest(tmp_path)
    assert latest is not None
    assert latest.path == path
    assert (tmp_path / "step_000002.bak").exists()


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path, mark_at: MarkAt) -> None:
    checkpoints.save(tmp_path, mark_at(2), weights("old"))
    saved = checkpoints.save(tmp_path, mark_at(2), weights("new"))
    assert (saved.path / "weights.safetensors").read_text() == "new"
    assert names(tmp_path) == ["step_000002"]


def _no_state(path: Path) -> None:
    (path / "state.json").unlink()


def _no_checksums(path: Path) -> None:
    (path / "checksums.sha256").unlink()


def _half_the_checksums(path: Path) -> None:
    text = (path / "checksums.sha256").read_text()
    (path / "checksums.sha256").write_text(text[: len(text) // 2])


def _one_checksum_less(path: Path) -> None:
    lines = (path / "checksums.sha256").read_text().splitlines(keepends=True)
    (path / "checksums.sha256").write_text("".join(lines[:-1]))


def _another_line(path: Path) -> None:
    with (path / "checksums.sha256").open("a") as file:
        file.write("no checksum\n")


def _another_state(path: Path) -> None:
    """One that a person edited, and whose checksum they mended."""
    (path / "state.json").write_text("{}")
    (path / "checksums.sha256").write_text(checkpoints._checksums(path))


def _no_weights(path: Path) -> None:
    (path / "weights.safetensors").unlink()


def _other_weights(path: Path) -> None:
    (path / "optimiser" / "state.safetensors").write_text("v")


def _more_files(path: Path) -> None:
    (path / "pytorch_model.bin").touch()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_state, "state.json is missing"),
        (_no_checksums, "checksums.sha256: No such file"),
        (_half_the_checksums, "is not in checksums.sha256"),
        (_one_checksum_less, "weights.safetensors is not in checksums.sha256"),
        (_another_line, "a line that is no checksum: 'no checksum'"),
        (_another_state, "state.json: the key 'state' is missing"),
        (_no_weights, "weights.safetensors is missing"),
        (_other_weights, "optimiser/state.safetensors is not what was written"),
        (_more_files, "pytorch_model.bin is not in checksums.sha256"),
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
    sound = checkpoints.save(tmp_path, mark_at(2), weights("w"))
    damage(checkpoints.save(tmp_path, mark_at(4), weights("w")).path)
    assert checkpoints.latest(tmp_path) == sound
    if reason:
        (record,) = caplog.records
        assert "step_000004 is damaged" in record.getMessage()
        assert reason in record.getMessage()


def test_how_far_a_run_has_come_is_told_without_reading_its_weights(
    tmp_path: Path, mark_at: MarkAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = checkpoints.save(tmp_path, mark_at(2), weights("w"))
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "_digest", None)
        assert checkpoints.latest(tmp_path, read=False) == saved
    for damage in (_no_weights, _more_files, _no_checksums, _other_weights):
        shutil.rmtree(tmp_path / "step_000002")
        damage(checkpoints.save(tmp_path, mark_at(2), weights("w")).path)
        later = time.time() + 1  # the clock of a file may tick slower than this loop
        for file in (tmp_path / "step_000002").glob("optimiser/*"):
            os.utime(file, (later, later))
        assert checkpoints.latest(tmp_path, read=False) is None


def test_damage_that_left_no_trace_is_found_where_the_weights_are_read(
    tmp_path: Path, mark_at: MarkAt
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    path = checkpoints.save(folder, mark_at(2), weights("w")).path
    assert checkpoints.load(path).mark == mark_at(2)
    file = path / "weights.safetensors"
    before = file.stat()
    file.write_text("v")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checkpoints.latest(folder, read=False) is not None
    assert checkpoints.latest(folder) is None
    with pytest.raises(
        InputError, match=r"step_000002: this .* damaged: weights.safetensors is"
    ) as e:
        checkpoints.load(path)
    assert f"`fastslow resume {tmp_path / 'run'}` goes on from the one before" in str(e.value)


@given(data=st.data())
def test_no_bit_of_a_checkpoint_can_change_unnoticed(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mark = Mark(LoopState(2, 1, Population((Candidate(Context("Answer.")),))), 0, 0, ())
        path = checkpoints.save(Path(folder), mark, weights("some weights")).path
        assert checkpoints.latest(Path(folder)) is not None
        files = sorted(file for file in path.rglob("*") if file.is_file())
        file = data.draw(st.sampled_from(files))
        content = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, 8 * len(content) - 1))
        content[place // 8] ^= 1 << place % 8
        file.write_bytes(content)
        assert checkpoints.latest(Path(folder)) is None


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt(), ValueError("x")])
def test_a_save_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, mark_at: MarkAt, error: BaseException
) -> None:
    before = checkpoints.save(tmp_path, mark_at(2), weights("w"))

    def fail(folder: Path) -> None:
        weights("half")(folder)
        raise error

    for step in (2, 4):
        with pytest.raises(type(error)):
            checkpoints.save(tmp_path, mark_at(step), fail)
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
        checkpoints.save(folder, mark_at(2), weights("old"))
        killed = killed_at(
            moment,
            lambda folder=folder: checkpoints.save(folder, mark_at(step), weights("new")),
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
        checkpoints.prune(folder, checkpoints.save(folder, mark_at(6), weights("next")), keep=1)
        assert names(folder) == ["step_000006"]
        if not killed:
            break
        moment += 1
    assert moment > 10
    assert found == {"old", "new"}
