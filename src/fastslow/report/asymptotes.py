"""Where the learning curves of a comparison would end, or why that cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fastslow.measure.efficiency import Curve, learning_curve
from fastslow.measure.scaling import SigmoidFit, Unidentified, fit
from fastslow.report.arms import Arm
from fastslow.report.curves import tasks_of
from fastslow.report.plot import Figure, Panel, Series
from fastslow.report.table import Cell, Table
from fastslow.run.record import RunRecord

_POINTS = 60
"""Points at which a fitted curve is drawn."""


@dataclass(frozen=True)
class Asymptote:
    """The sigmoid of one learning curve of one run.

    Attributes:
        of: what the curve measures: "accuracy on TASK", or "training reward".
        curve: what was fitted, over ``samples``.
    """

    arm: Arm
    run: RunRecord
    of: str
    curve: Curve
    fitted: SigmoidFit | Unidentified

    @property
    def samples(self) -> list[float]:
        return _problems(self.run, self.curve)


def asymptotes(arms: Sequence[Arm]) -> list[Asymptote]:
    """A fit for every run: of its accuracy on each task, and of its training reward.

    The reward of the training batches has many more points than there are evaluations, so it often
    tells an asymptote that they do not. In a run of several stages it mixes their tasks, and a
    curve of one task has its other stages in it, so only runs on one stage are fitted.
    """
    single = [(arm, run) for arm in arms for run in arm.runs if len(run.config.all_stages) == 1]
    kinds: list[tuple[str, str | None, Literal["eval", "slow"]]] = [
        (f"accuracy on {task}", task, "eval") for task in tasks_of(arms)
    ]
    kinds.append(("training reward", None, "slow"))
    return [
        Asymptote(arm, run, of, curve, fit(_problems(run, curve), curve.rewards))
        for of, task, phase in kinds
        for arm, run in single
        if (curve := learning_curve(run, task=task, phase=phase)).rewards
    ]


def asymptotes_table(found: Sequence[Asymptote]) -> Table:
    """The parameters of each fit, or the reason why there is none."""
    columns = ["curve", "run", "R0", "asymptote A", "A, low", "A, high", "C_mid", "B"]
    columns += ["residual", "points", "not told because"]
    return Table(
        "asymptotes",
        "The sigmoid R - R0 = (A - R0) / (1 + (C_mid / C)^B), fitted to rewards over training "
        "problems (C). A is where the curve would end, with a 95 % interval for the noise of "
        "this run's measurements; the spread between seeds is not in it.",
        columns,
        [[one.of, one.run.name, *_cells(one.fitted)] for one in found],
    ).measured


def asymptotes_figure(found: Sequence[Asymptote]) -> Figure:
    """What was measured, and the fitted curve over it where there is one."""
    panels = [
        Panel(
            of,
            "problems trained on",
            "reward",
            [series for one in found if one.of == of for series in _series(one)],
            share=True,
        )
        for of in dict.fromkeys(one.of for one in found if _is_told(one))
    ]
    return Figure(
        "asymptote_curves",
        "Asymptotes",
        "Measured rewards (points) and the sigmoids fitted to them (lines). Runs whose asymptote "
        "cannot be told have points only. Drawn for the curves of which at least one could be "
        "fitted.",
        panels,
    )


def _problems(run: RunRecord, curve: Curve) -> list[float]:
    """Problems trained on at each point; contexts alone train on none, so theirs are those seen."""
    return curve.counts("problems", include_fast=not run.config.uses_slow)


def _is_told(one: Asymptote) -> bool:
    return isinstance(one.fitted, SigmoidFit)


def _cells(fitted: SigmoidFit | Unidentified) -> list[Cell]:
    if isinstance(fitted, Unidentified):
        return [*[None] * 8, fitted.reason]
    a = fitted.asymptote
    shape: list[Cell] = [fitted.midpoint, fitted.exponent, fitted.residual]
    return [fitted.r0, a.value, a.low, a.high, *shape, a.n, None]


def _series(one: Asymptote) -> list[Series]:
    measured = Series(one.arm.label, one.arm.look, one.samples, one.curve.rewards, mark="measured")
    if not isinstance(one.fitted, SigmoidFit):
        return [measured]
    last = one.samples[-1]
    x = [last * number / _POINTS for number in range(_POINTS + 1)]
    y = [float(value) for value in one.fitted.predict(x)]
    return [measured, Series(one.arm.label, one.arm.look, x, y, mark="fit")]
