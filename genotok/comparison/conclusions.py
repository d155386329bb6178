"""What the numbers of a comparison support, in sentences that follow from them by rule.

An arm counts as better than another where the interval of their difference leaves out 0; the intervals are widened
for the number of arms that are held against one another (`genotok.comparison.intervals.widened`). Everything else is
called undecided, however far apart the means are. An interval that stands in a sentence is the one that decided.
"""

from typing import Any

import numpy as np

from genotok.comparison.arms import ENTROPY, FIXED, LEARNED, SINGLE, VOCABULARY
from genotok.comparison.intervals import CONFIDENCE, Estimate, differs, widened
from genotok.comparison.summary import ArmResult, Comparison, Quality

FAMILIES = {
    SINGLE: "single bases",
    FIXED: "fixed cuts",
    VOCABULARY: "byte pairs",
    ENTROPY: "entropy patches",
}
VERDICTS = {"better": "better than", "worse": "worse than", "undecided": "not to be told from"}
FEWEST_SEEDS = 3


def conclude(comparison: Comparison) -> list[dict[str, Any]]:
    """All conclusions.

    Returns:
        JSON values: `about` (`work`, `intervals`, `seeds`, `missing`, the key of a quality, `families`, `baselines`,
        `probe_baseline`, `cost` or `stability`), `says`, a sentence or two, and what it follows from.
    """
    found = [_work(comparison), *_caveats(comparison), _intervals()]
    for quality in comparison.qualities:
        if quality.key == "variants" and not any(_above_chance(comparison, arm) for arm in comparison.arms):
            found.append(_nothing_to_rank(comparison, quality))
            continue
        found.append(_ranking(comparison, quality))
        found += _families(comparison, quality)
    return [
        *found,
        *_baselines(comparison),
        *_probe_baseline(comparison),
        _cost(comparison),
        *_stability(comparison),
    ]


def _work(comparison: Comparison) -> dict[str, Any]:
    plan, tolerance = comparison.plan, comparison.plan["settings"]["tolerance"]
    off = {arm.name: arm.deviation for arm in comparison.arms if abs(arm.deviation) > tolerance}
    wanted = plan["settings"]["flops_per_base"]
    says = (
        f"Every arm read the same {plan['bases']:,} bases with each seed, and was sized to {wanted / 1e6:g} million "
        "operations of training a base. "
    )
    if off:
        parts = ", ".join(f"{_title(comparison, name)} {100 * value:+.1f} %" for name, value in off.items())
        says += (
            f"As their chunks turned out, these took more or less than the tolerance of {100 * tolerance:g} % "
            f"allows, and are no match on equal work: {parts}."
        )
    else:
        most = max(comparison.arms, key=lambda arm: abs(arm.deviation))
        says += f"Of all runs one of {most.title} is furthest from that: {100 * most.deviation:+.1f} %."
    return {"about": "work", "says": says, "off": off}


def _intervals() -> dict[str, Any]:
    says = (
        f"The table's intervals are of {100 * CONFIDENCE:g} %. A verdict (better, worse, above, below) follows from "
        "intervals that are widened for the number of comparisons made at once, so that an arm whose interval in the "
        "table just leaves out a number may still not be told from it."
    )
    return {"about": "intervals", "says": says}


def _caveats(comparison: Comparison) -> list[dict[str, Any]]:
    found = []
    if len(comparison.seeds) < FEWEST_SEEDS:
        says = (
            f"With {len(comparison.seeds)} seed{'s' if len(comparison.seeds) > 1 else ''} the intervals hold little "
            "or nothing of what another seed would change; no conclusion below should be carried further."
        )
        found.append({"about": "seeds", "says": says})
    if comparison.missing:
        names = sorted({name for name, _ in comparison.missing})
        says = f"Without a run for every seed, and so left out: {', '.join(names)}."
        found.append({"about": "missing", "says": says, "arms": names})
    return found


def _ranking(comparison: Comparison, quality: Quality) -> dict[str, Any]:
    """The best arm, those that cannot be told from it, and those that are worse."""
    ordered = sorted(comparison.arms, key=lambda arm: -quality.sign * arm.qualities[quality.key].value)
    best, *others = ordered
    tied, worse = [], []
    for arm in others:
        difference = best.qualities[quality.key].minus(arm.qualities[quality.key])
        (worse if differs(difference, len(others)) == quality.sign else tied).append(arm)
    says = f"{_begin(quality)}: best is {best.title}, {_number(best, quality)}. "
    says += f"Not to be told from it: {_list(tied)}. " if tied else "All others are worse. "
    says += f"Worse: {_list(worse)}." if tied and worse else ""
    return {
        "about": quality.key,
        "says": says.strip(),
        "best": best.name,
        "undecided": [arm.name for arm in tied],
        "worse": [arm.name for arm in worse],
    }


def _nothing_to_rank(comparison: Comparison, quality: Quality) -> dict[str, Any]:
    """Where no arm's scores agree with the effects, the one that disagrees least is not the best."""
    against = [arm for arm in comparison.arms if _sign(comparison, arm) < 0]
    within = [arm for arm in comparison.arms if _sign(comparison, arm) == 0]
    says = f"{_begin(quality)}: no arm's is surely above 0, so there is nothing to rank."
    says += f" Below 0, against the measured effects: {_list(against)}." if against else ""
    says += f" Not to be told from 0: {_list(within)}." if within else ""
    names = [arm.name for arm in comparison.arms]
    below = [arm.name for arm in against]
    return {
        "about": quality.key,
        "says": says,
        "best": None,
        "undecided": names,
        "worse": [],
        "below_0": below,
    }


def _above_chance(comparison: Comparison, arm: ArmResult) -> bool:
    return _sign(comparison, arm) > 0


def _sign(comparison: Comparison, arm: ArmResult) -> int:
    """Of the correlation of an arm's variant scores, 0 where that is within chance."""
    return differs(arm.qualities["variants"], len(comparison.arms))


def _families(comparison: Comparison, quality: Quality) -> list[dict[str, Any]]:
    """The best arm whose boundaries are learned with the model against the best of every other family."""
    learned = [arm for arm in comparison.arms if arm.family == LEARNED]
    rivals = [family for family in FAMILIES if any(arm.family == family for arm in comparison.arms)]
    if not learned or not rivals:
        return []
    own = _best(learned, quality)
    parts, verdicts = [], {}
    for family in rivals:
        rival = _best([arm for arm in comparison.arms if arm.family == family], quality)
        difference = own.qualities[quality.key].minus(rival.qualities[quality.key])
        verdict = {1: "better", -1: "worse", 0: "undecided"}[quality.sign * differs(difference, len(rivals))]
        low, high = difference.interval(widened(len(rivals)))
        verdicts[family] = verdict
        numbers = f"{_signed(difference.value, quality)} [{_signed(low, quality)}, {_signed(high, quality)}]"
        parts.append(f"{VERDICTS[verdict]} the best of {FAMILIES[family]} ({rival.title}: {numbers})")
    says = f"{_begin(quality)}: of learned boundaries the best is {own.title}. It is " + "; ".join(parts)
    return [{"about": "families", "quality": quality.key, "says": f"{says}.", "verdicts": verdicts}]


def _baselines(comparison: Comparison) -> list[dict[str, Any]]:
    """Which arms read held-out sequence better than counts of words do, and which worse."""
    found = []
    for genome, bits in ((comparison.baselines or {}).get("bits_per_base") or {}).items():
        key, (name, least) = f"bits_{genome}", min(bits.items(), key=lambda item: item[1])
        says = f"On {genome} the best counts of words ({name}) need {least:.4f} bits per base."
        found.append(
            {"about": "baselines", "genome": genome} | _beside(comparison, key, says, _number_alone(least))
        )
    return found


def _probe_baseline(comparison: Comparison) -> list[dict[str, Any]]:
    """Which arms' states say more of the labels than the shares of short words do, and which less."""
    probe = (comparison.baselines or {}).get("probe")
    if probe is None or not any(quality.key == "probe" for quality in comparison.qualities):
        return []
    words = Estimate(probe["value"], np.array(probe["drawn"], np.float64), [])
    low, high = words.interval()
    says = (
        f"A logistic regression on the shares of short words, without any model, has an accuracy of "
        f"{words.value:.3f} ({100 * CONFIDENCE:g} % {low:.3f} to {high:.3f})."
    )
    return [{"about": "probe_baseline"} | _beside(comparison, "probe", says, words)]


def _number_alone(value: float) -> Estimate:
    return Estimate(value, np.array(value), [])


def _beside(comparison: Comparison, key: str, says: str, line: Estimate) -> dict[str, Any]:
    """The arms above a line, below it, and those that cannot be told from it."""
    sides: dict[int, list[ArmResult]] = {1: [], -1: [], 0: []}
    for arm in comparison.arms:
        own = arm.qualities[key]
        apart = Estimate(own.value - line.value, own.drawn - line.drawn, [])
        sides[differs(apart, len(comparison.arms))].append(arm)
    for side, begin in ((-1, "Below that"), (1, "Above that"), (0, "Not to be told from it")):
        says += f" {begin}: {_list(sides[side])}." if sides[side] else ""
    names = {
        word: [arm.name for arm in sides[side]]
        for word, side in (("below", -1), ("above", 1), ("undecided", 0))
    }
    return {"says": says} | names


def _cost(comparison: Comparison) -> dict[str, Any]:
    fast = sorted(comparison.arms, key=lambda arm: -arm.bases_per_second)
    small = sorted(comparison.arms, key=lambda arm: arm.memory_bytes)
    says = (
        f"At equal operations a base, training is fastest with {fast[0].title} ({fast[0].bases_per_second:,.0f} "
        f"bases/s, {fast[0].bases_per_second / fast[-1].bases_per_second:.1f} times as fast as with "
        f"{fast[-1].title}) and takes the least memory with {small[0].title} ({small[0].memory_bytes / 1e9:.2f} GB). "
        "These numbers have no interval, and are of this device and these kernels."
    )
    return {"about": "cost", "says": says, "fastest": fast[0].name, "least_memory": small[0].name}


def _stability(comparison: Comparison) -> list[dict[str, Any]]:
    cutting = [arm for arm in comparison.arms if arm.changed is not None]
    if not cutting:
        return []
    lost = [arm for arm in cutting if arm.recovered is None]
    found = [arm for arm in cutting if arm.recovered is not None]
    says = "Read from one base later, "
    if lost:
        says += f"these do not cut at the same places again: {_list(lost)}. "
    if found:
        parts = "; ".join(f"{arm.title} after {arm.recovered:.0f} bases" for arm in found)
        says += f"{'But these do' if lost else 'these cut at the same places again'}, at half of the sites: {parts}."
    return [{"about": "stability", "says": says.strip(), "never": [arm.name for arm in lost]}]


def _best(arms: list[ArmResult], quality: Quality) -> ArmResult:
    return max(arms, key=lambda arm: quality.sign * arm.qualities[quality.key].value)


def _title(comparison: Comparison, name: str) -> str:
    return next(arm.title for arm in comparison.arms if arm.name == name)


def _begin(quality: Quality) -> str:
    return quality.title[0].upper() + quality.title[1:]


def _list(arms: list[ArmResult]) -> str:
    return "; ".join(arm.title for arm in arms)


def _number(arm: ArmResult, quality: Quality) -> str:
    estimate = arm.qualities[quality.key]
    low, high = estimate.interval()
    ends = f"{low:.{quality.digits}f} to {high:.{quality.digits}f}"
    return f"{estimate.value:.{quality.digits}f} ({100 * CONFIDENCE:g} % {ends})"


def _signed(value: float, quality: Quality) -> str:
    return f"{value:+.{quality.digits}f}"
