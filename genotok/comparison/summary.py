"""The runs of a comparison, put together: one row an arm."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genotok.comparison.intervals import Estimate, over_seeds
from genotok.comparison.runs import letters_a_row
from genotok.errors import InputError


@dataclass(frozen=True)
class Quality:
    """A measure by which arms are ranked.

    Attributes:
        key: as tables write it.
        title: as people read it.
        sign: 1 where more is better, -1 where less is.
        digits: behind the point.
    """

    key: str
    title: str
    sign: int
    digits: int = 3


@dataclass
class ArmResult:
    """What the runs of one arm found.

    Attributes:
        name, title, family: of the arm.
        seeds: of its runs.
        qualities: by the key of a `Quality`; those that were not measured are left out.
        flops_per_base: realised, the mean over the runs.
        deviation: of the run that is furthest from what is wanted, relative.
        bases_per_second: of training, the median over the runs.
        memory_bytes: the most of any run.
        letters_a_row: letters of the held-out sequence a row of the main network, the mean over the runs.
        changed: boundaries that one substitution changes, of the innermost stage; None for single bases.
        recovered: bases after which readings a base apart agree; None where they do not, or for single bases.
        parameters: of the model.
    """

    name: str
    title: str
    family: str
    seeds: list[int]
    qualities: dict[str, Estimate]
    flops_per_base: float
    deviation: float
    bases_per_second: float
    memory_bytes: int
    letters_a_row: float
    changed: float | None
    recovered: float | None
    parameters: int


@dataclass
class Comparison:
    """All arms that have a run with every seed.

    Attributes:
        plan: of `genotok.comparison.plan.make_plan`.
        arms: in the plan's order.
        qualities: that were measured.
        missing: (arm, seed) pairs that have no run; arms with one are left out.
        baselines: of `genotok.comparison.baselines`, or None.
    """

    plan: dict[str, Any]
    arms: list[ArmResult]
    qualities: list[Quality]
    missing: list[tuple[str, int]]
    baselines: dict[str, Any] | None = None

    @property
    def seeds(self) -> list[int]:
        """Of every arm."""
        return self.plan["settings"]["seeds"]


def put_together(
    plan: dict[str, Any], runs: Sequence[dict[str, Any]], baselines: dict[str, Any] | None = None
) -> Comparison:
    """Compare the arms of a plan.

    Args:
        plan: of `genotok.comparison.plan.make_plan`.
        runs: `measures.json` of the runs, in any order.
        baselines: of `genotok.comparison.baselines.measure_baselines`.

    Raises:
        InputError: a run is of another plan, stands there twice, or fewer than two arms are complete.
    """
    by_run = {}
    for run in runs:
        key = run["arm"], run["seed"]
        if key[0] not in plan["arms"] or key[1] not in plan["settings"]["seeds"]:
            raise InputError(f"the run of {key[0]!r} with seed {key[1]} is none of the plan's")
        if key in by_run:
            raise InputError(f"the run of {key[0]!r} with seed {key[1]} stands there twice")
        by_run[key] = run
    seeds = plan["settings"]["seeds"]
    missing = [(name, seed) for name in plan["arms"] for seed in seeds if (name, seed) not in by_run]
    gone = {name for name, _ in missing}
    complete = {name: [by_run[name, seed] for seed in seeds] for name in plan["arms"] if name not in gone}
    if not seeds or len(complete) < 2:
        raise InputError(
            "fewer than two arms have a run with every seed, and one alone compares with nothing"
        )
    arms = [_arm_result(plan["arms"][name], name, found) for name, found in complete.items()]
    known = _qualities(next(iter(complete.values()))[0])
    qualities = [one for one in known if all(one.key in arm.qualities for arm in arms)]
    return Comparison(plan, arms, qualities, missing, baselines)


def with_whole_seeds(
    plan: dict[str, Any], runs: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A plan and its runs, of a comparison that was cut short, with those seeds alone that every arm has a run of.

    An arm without any run, such as one that failed, holds back no seed.
    """
    done = {(run["arm"], run["seed"]) for run in runs}
    settings, begun = plan["settings"], {name for name, _ in done}
    seeds = [seed for seed in settings["seeds"] if begun and all((name, seed) in done for name in begun)]
    kept = [run for run in runs if run["seed"] in seeds]
    return plan | {"settings": settings | {"seeds": seeds}}, kept


def _qualities(run: dict[str, Any]) -> list[Quality]:
    bits = [Quality(f"bits_{genome}", f"bits per base, {genome}", -1, 4) for genome in run["bits_per_base"]]
    return [
        *bits,
        Quality("variants", "Spearman's correlation with measured effects of variants", 1),
        Quality("probe", "accuracy of a linear probe", 1),
    ]


def _arm_result(arm: dict[str, Any], name: str, runs: list[dict[str, Any]]) -> ArmResult:
    measured = {
        f"bits_{genome}": [run["bits_per_base"][genome] for run in runs]
        for genome in runs[0]["bits_per_base"]
    }
    for key in ("variants", "probe"):
        if all(run[key] is not None for run in runs):
            measured[key] = [run[key] for run in runs]
    estimates = {key: over_seeds(found) for key, found in measured.items()}
    inner = [run["stability"][-1] for run in runs if run["stability"]]
    recovered = [stage["recovered"] for stage in inner]
    return ArmResult(
        name=name,
        title=arm["title"],
        family=arm["family"],
        seeds=[run["seed"] for run in runs],
        qualities={key: found for key, found in estimates.items() if found is not None},
        flops_per_base=statistics.fmean(run["flops_per_base"] for run in runs),
        deviation=max((run["deviation"] for run in runs), key=abs),
        bases_per_second=statistics.median(run["bases_per_second"] for run in runs),
        memory_bytes=max(run["memory_bytes"] for run in runs),
        letters_a_row=statistics.fmean(letters_a_row(run, arm["letters"]) for run in runs),
        changed=statistics.fmean(stage["changed"] for stage in inner) if inner else None,
        recovered=statistics.fmean(recovered) if inner and None not in recovered else None,
        parameters=arm["parameters"],
    )
