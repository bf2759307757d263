"""How close contexts optimised for the final RL weights come to FST.

The paper's readers asked, and it does not say: is interleaving worth more than RL first and
context optimisation after it? Contexts are evolved for the weights that RL ended with, on the same
problems and in as many fast phases as FST has, and stand beside FST and plain RL.
"""

from __future__ import annotations

from fastslow.studies.figures import line_panel, point_panel
from fastslow.studies.measured import curve, final, final_difference, summary
from fastslow.studies.plan import Plan
from fastslow.studies.study import Conclusion, Evidence, Setup, Study, StudySettings

ROLES = ("rl", "rl -> fast", "fst")


def plan(setup: Setup[StudySettings]) -> Plan:
    runs = []
    for seed in setup.settings.seeds:
        rl = setup.run("rl", "rl", seed)
        fast = setup.run("rl -> fast", "fast", seed, after=rl)
        runs += [rl, fast, setup.run("fst", "fst", seed)]
    return Plan(tuple(runs))


def conclude(evidence: Evidence[StudySettings]) -> Conclusion:
    claims = [
        evidence.claim(
            "FST ends above RL with contexts optimised for its final weights",
            "above",
            0.0,
            ("fst", "rl -> fast"),
            final_difference,
        ),
        evidence.claim(
            "contexts optimised for RL's final weights add to them",
            "above",
            0.0,
            ("rl -> fast", "rl"),
            final_difference,
        ),
    ]
    ends = {
        role: [value for run in evidence.of(role) if (value := final(run)) is not None]
        for role in ROLES
    }
    panels = [
        point_panel("At the end", "", "accuracy", {role: {"": ends[role]} for role in ROLES}),
        line_panel(
            "While training",
            "slow step",
            "accuracy",
            {role: [curve(run) for run in evidence.of(role)] for role in ROLES},
        ),
    ]
    rows = [summary(role, run) for role in ROLES for run in evidence.of(role)]
    return Conclusion(rows, claims, panels)


STUDY = Study(StudySettings, plan, conclude)
