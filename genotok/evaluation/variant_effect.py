"""How well variant scores agree with measured effects, and how well trivial scores would have done.

Throughout, a higher score and a higher truth mean the fitter variant: a log-likelihood ratio as it is, a
growth rate or fitness as it is. A truth that counts harm must be negated first.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from genotok.errors import InputError

TRANSITIONS = frozenset(["AG", "GA", "CT", "TC"])
CONSEQUENCE_SCORES = {  # what changes: the most of the protein, one end, some of it, its splicing, nothing of it
    "intergenic": 2.0,
    "intron": 1.5,
    "noncoding_exon": 1.0,
    "utr": 0.5,
    "noncoding": 0.0,
    "synonymous": 0.0,
    "splice_region": -0.5,
    "missense": -1.0,
    "inframe_indel": -1.5,
    "start_lost": -2.0,
    "stop_lost": -2.0,
    "nonsense": -3.0,
    "frameshift": -3.0,
    "splice_site": -3.0,
}
FEWEST_PAIRS = 3


def spearman_with_interval(
    scores: Sequence[float],
    truth: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    strata: Sequence | None = None,
) -> dict[str, float | int | None]:
    """Spearman's rank correlation with a percentile bootstrap interval (Efron and Tibshirani, 1993).

    Args:
        scores: shape (n,). A pair with a NaN on either side is missing; infinities are ranked.
        truth: shape (n,).
        resamples: how often the pairs are drawn with replacement; ranks are computed anew each time.
        seed: the same seed gives the same interval.
        confidence: of the interval, between 0 and 1.
        strata: shape (n,) labels; pairs are then drawn within each label, so that every resample has as
            many of each as the data.

    Returns:
        `n` and `n_missing` pairs, `spearman`, `ci_low`, `ci_high`, and `p` of scipy's two-sided t-test.
        The last four are None where they are undefined: fewer than 3 pairs, or one side constant.

    Raises:
        InputError: the lengths differ, there is not one resample, or the confidence is not within (0, 1).
    """
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    labels = np.zeros(len(scores)) if strata is None else np.asarray(strata)
    if not len(scores) == len(truth) == len(labels):
        lengths = f"{len(scores)} scores, {len(truth)} true values and {len(labels)} strata"
        raise InputError(f"{lengths} were given; each variant needs one of each")
    if resamples < 1 or not 0 < confidence < 1:
        raise InputError("the bootstrap needs at least one resample and a confidence between 0 and 1")
    known = ~(np.isnan(scores) | np.isnan(truth))
    counted = {"n": int(known.sum()), "n_missing": int((~known).sum())}
    scores, truth, labels = scores[known], truth[known], labels[known]
    if (
        len(scores) < FEWEST_PAIRS
        or np.ptp(stats.rankdata(scores)) == 0
        or np.ptp(stats.rankdata(truth)) == 0
    ):
        return counted | dict.fromkeys(["spearman", "ci_low", "ci_high", "p"])
    correlation = stats.spearmanr(scores, truth)
    drawn = _resampled_correlations(scores, truth, labels, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]).tolist() if len(drawn) else (None, None)
    named = {"spearman": float(correlation.statistic), "ci_low": low, "ci_high": high}
    return counted | named | {"p": float(correlation.pvalue)}


def _resampled_correlations(
    scores: np.ndarray, truth: np.ndarray, labels: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Spearman's correlation of each resample; those with a constant side are left out."""
    _, score_rank = np.unique(scores, return_inverse=True)
    _, truth_rank = np.unique(truth, return_inverse=True)
    _, stratum, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    by_stratum = np.argsort(stratum, kind="stable")
    size = np.repeat(sizes, sizes)
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn = np.empty(resamples)
    for resample in range(resamples):
        chosen = by_stratum[start + (rng.random(len(size)) * size).astype(np.int64)]
        drawn[resample] = _rank_correlation(score_rank[chosen], truth_rank[chosen])
    return drawn[~np.isnan(drawn)]


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two arrays of small integers, without sorting them; NaN if one is constant."""
    deviations, squares = [], []
    for values in (one, other):
        count = np.bincount(values)
        middle_rank = np.cumsum(count) - (count - 1) / 2  # of the values that are tied
        deviation = middle_rank - (len(values) + 1) / 2
        deviations.append(deviation[values])
        squares.append(np.dot(count, deviation**2))
    if min(squares) == 0:
        return np.nan
    return float(np.dot(*deviations) / np.sqrt(squares[0] * squares[1]))


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """The probability that a positive outranks a negative, ties counting half (Mann and Whitney, 1947).

    Args:
        scores: shape (n,), without NaN, high for positives.
        positive: shape (n,).

    Returns:
        0 to 1, or None when all or none are positive.
    """
    positive = np.asarray(positive, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    rank_sum = stats.rankdata(np.asarray(scores, dtype=np.float64))[positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """The area under the precision-recall steps, equal scores forming one step; arguments as for `auroc`.

    Returns:
        0 to 1, where a useless score gives the share of positives; None when none are positive.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not positive.any():
        return None
    distinct, step = np.unique(-scores, return_inverse=True)
    taken = np.cumsum(np.bincount(step, minlength=len(distinct)))
    found = np.bincount(step, weights=positive, minlength=len(distinct))
    return float(np.sum(found * np.cumsum(found) / taken) / positive.sum())


def transition_or_transversion(ref: Sequence[str], alt: Sequence[str]) -> np.ndarray:
    """A score that knows only the two bases: 1 for a transition, 0 for a transversion.

    Args:
        ref: shape (n,) alleles, in either case.
        alt: shape (n,).

    Returns:
        float64 of shape (n,), NaN where the alleles are not two different single bases of A, C, G and T.
    """
    changes = [str(one).upper() + ">" + str(other).upper() for one, other in zip(ref, alt, strict=True)]
    score_of = {
        f"{one}>{other}": float(one + other in TRANSITIONS)
        for one in "ACGT"
        for other in "ACGT"
        if one != other
    }
    return np.array([score_of.get(change, np.nan) for change in changes], dtype=np.float64)


def consequence_score(consequences: Sequence[str]) -> np.ndarray:
    """A score that knows only the consequence for the protein: the more of it changes, the lower.

    Args:
        consequences: shape (n,), names of `CONSEQUENCE_SCORES`; None, NaN, `.` and empty text are unknown.

    Returns:
        float64 of shape (n,), of `CONSEQUENCE_SCORES`; NaN where unknown.

    Raises:
        InputError: a name is none of these.
    """
    names = pd.Series(list(consequences), dtype=object).replace({"": None, ".": None})
    strange = set(names.dropna()) - set(CONSEQUENCE_SCORES)
    if strange:
        allowed = ", ".join(CONSEQUENCE_SCORES)
        raise InputError(f"unknown consequence {min(map(str, strange))!r}; use one of {allowed}")
    return names.map(CONSEQUENCE_SCORES).to_numpy(dtype=np.float64)


def consequence_then_transition(consequence: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """A score that orders by consequence, and transitions first within one; arguments as the two functions give."""
    return consequence + transition / 4  # less than from one consequence to the next


def evaluate_variants(
    table: pd.DataFrame,
    score: str = "llr",
    truth: str = "fitness",
    consequence: str | None = None,
    *,
    baselines: Sequence[str] = (),
    harmful_below: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Compare a model's scores with the truth, beside scores that need no model.

    All predictors are judged on the same variants, those with a score and a truth; only `transition` leaves
    out what is no change of a single base, and says so in its own `n_missing`.

    Args:
        table: one row for each variant, with columns `ref`, `alt` and those named below.
        score: the column with the model's score, NaN where a variant has none.
        truth: the column with the measured effect, NaN where unknown.
        consequence: the column with names of `CONSEQUENCE_SCORES`, or None.
        baselines: columns with further scores that need no model, higher = fitter.
        harmful_below: a truth below it counts as harmful in `auroc` and `average_precision`; None leaves
            the two out.
        resamples: of the bootstrap; see `spearman_with_interval`.
        seed: of the bootstrap.

    Returns:
        Plain numbers, None and text, ready for JSON:
        `n` and `n_missing` variants; `predictors`: for `model`, `transition`, the baselines and, given a
        consequence, `consequence` and `consequence_then_transition` (transitions first within a consequence), what
        `spearman_with_interval` returns and the two areas; `per_consequence`: for each consequence found
        the same for all but these two.

    Raises:
        InputError: a column is missing or not numeric, or a consequence is unknown.
    """
    wanted = ["ref", "alt", score, truth, *baselines] + ([consequence] if consequence else [])
    _require_columns(table, wanted, numeric=[score, truth, *baselines])
    judged = table[table[score].notna() & table[truth].notna()]
    values = judged[truth].to_numpy(dtype=np.float64)
    predictors = {
        "model": judged[score].to_numpy(dtype=np.float64),
        "transition": transition_or_transversion(judged["ref"], judged["alt"]),
    }
    predictors |= {name: judged[name].to_numpy(dtype=np.float64) for name in baselines}
    always = list(predictors)
    if consequence:
        predictors["consequence"] = consequence_score(judged[consequence])
        predictors["consequence_then_transition"] = consequence_then_transition(
            predictors["consequence"], predictors["transition"]
        )

    def judge(names: Sequence[str], rows: np.ndarray) -> dict:
        return {
            name: _agreement(predictors[name][rows], values[rows], harmful_below, resamples, seed)
            for name in names
        }

    result = {"n": len(judged), "n_missing": len(table) - len(judged)}
    result["predictors"] = judge(list(predictors), np.ones(len(judged), dtype=bool))
    if consequence:
        labels = judged[consequence].to_numpy()
        found = [name for name in CONSEQUENCE_SCORES if (labels == name).any()]
        result["per_consequence"] = {name: judge(always, labels == name) for name in found}
    return result


def _require_columns(table: pd.DataFrame, wanted: list[str], numeric: list[str]) -> None:
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        there = ", ".join(map(str, table.columns))
        raise InputError(f"the variant table has no column {missing[0]!r}; its columns are {there}")
    for name in numeric:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(f"column {name!r} of the variant table holds text; numbers are needed")


def _agreement(
    scores: np.ndarray, truth: np.ndarray, harmful_below: float | None, resamples: int, seed: int
) -> dict[str, float | int | None]:
    found = spearman_with_interval(scores, truth, resamples=resamples, seed=seed)
    if harmful_below is not None:
        known = ~np.isnan(scores)
        harmful = truth[known] < harmful_below
        found["harmful"] = int(harmful.sum())
        found["auroc"] = auroc(-scores[known], harmful)
        found["average_precision"] = average_precision(-scores[known], harmful)
    return found
