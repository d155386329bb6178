"""How well variant scores tell harmful variants from harmless ones, beside scores that need no model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from genotok.errors import InputError
from genotok.evaluation.variant_effect import (
    CONSEQUENCE_SCORES,
    consequence_score,
    consequence_then_transition,
    transition_or_transversion,
)

AREAS = ("auroc", "auprc", "auprc_by_chrom")


def areas_with_intervals(
    scores: Sequence[float],
    positive: Sequence[bool],
    chrom: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, float | int | None]:
    """Areas under the curves with percentile intervals of a stratified bootstrap.

    `auroc` and `auprc` (average precision) are scikit-learn's; their variants are drawn with replacement among the
    positive and among the negative ones. `auprc_by_chrom` is TraitGym's AUPRC_by_chrom_weighted_average (Benegas,
    Eraslan and Song, 2025): the average precision of each contig, weighted by its variants, which are drawn among the
    positive and among the negative ones of the contig. Contigs without a positive have no average precision and
    are left out.

    Args:
        scores: shape (n,), high for positives; NaN is missing, infinities are ranked.
        positive: shape (n,).
        chrom: shape (n,) contigs.
        resamples: of the bootstrap.
        seed: the same seed gives the same intervals.
        confidence: of the intervals.

    Returns:
        `n`, `n_missing` and `positives`; each area of `AREAS`, and with the endings `_low` and `_high` its interval;
        None where all or none are positive.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    known = ~np.isnan(scores)
    counted = {
        "n": int(known.sum()),
        "n_missing": int((~known).sum()),
        "positives": int(positive[known].sum()),
    }
    positive, contigs = positive[known], pd.factorize(np.asarray(chrom, dtype=object)[known])[0]
    if not 0 < counted["positives"] < counted["n"]:
        return counted | {name + end: None for name in AREAS for end in ("", "_low", "_high")}
    ranks = rankdata(scores[known], "dense")
    points = _points(ranks, positive, contigs)
    rng = np.random.default_rng(seed)
    together, apart = _Steps(ranks, np.zeros_like(contigs)), _Steps(ranks, contigs)
    drawn: dict[str, list[float]] = {name: [] for name in AREAS}
    by_label, by_contig = _Strata(positive), _Strata(contigs * 2 + positive)
    for _ in range(resamples):
        chosen = by_label.draw(rng)
        counts = together.counts(chosen, positive)
        drawn["auroc"].append(_auroc(*counts))
        drawn["auprc"].append(together.average_precision(*counts))
        drawn["auprc_by_chrom"].append(apart.average_precision(*apart.counts(by_contig.draw(rng), positive)))
    tail = (1 - confidence) / 2
    for name in AREAS:
        low, high = np.quantile(drawn[name], [tail, 1 - tail]).tolist()
        counted |= {name: points[name], f"{name}_low": low, f"{name}_high": high}
    return counted


def _points(ranks: np.ndarray, positive: np.ndarray, contigs: np.ndarray) -> dict[str, float]:
    """The areas of all variants."""
    weighted, weight = 0.0, 0
    for contig in np.unique(contigs[positive]):
        here = contigs == contig
        weighted += here.sum() * average_precision_score(positive[here], ranks[here])
        weight += here.sum()
    areas = (
        roc_auc_score(positive, ranks),
        average_precision_score(positive, ranks),
        weighted / weight,
    )
    return dict(zip(AREAS, map(float, areas), strict=True))


class _Strata:
    """Draws with replacement within strata, so that each keeps its size."""

    def __init__(self, labels: np.ndarray):
        _, stratum, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self._places = np.argsort(stratum, kind="stable")
        self._sizes = np.repeat(sizes, sizes)
        self._starts = np.repeat(np.cumsum(sizes) - sizes, sizes)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return self._places[self._starts + (rng.random(len(self._sizes)) * self._sizes).astype(np.int64)]


class _Steps:
    """Variants by contig and falling score, those of one score being one step; sorted once for all resamples."""

    def __init__(self, ranks: np.ndarray, contigs: np.ndarray):
        width = int(ranks.max()) + 1
        found, self._step = np.unique(contigs * width + (width - 1 - ranks), return_inverse=True)
        self._number = len(found)
        contig = found // width
        self._first = np.flatnonzero(np.diff(contig, prepend=-1))
        self._lengths = np.diff(self._first, append=self._number)

    def counts(self, chosen: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many variants of a resample stand on each step, and how many of them are positive."""
        taken = np.bincount(self._step[chosen], minlength=self._number)
        return taken, np.bincount(self._step[chosen[positive[chosen]]], minlength=self._number)

    def average_precision(self, taken: np.ndarray, found: np.ndarray) -> float:
        """The mean over contigs with positives, weighted by their variants."""
        so_far_taken, so_far_found = self._running(taken), self._running(found)
        precision = np.divide(so_far_found, so_far_taken, where=so_far_taken > 0, out=np.zeros(len(taken)))
        variants, positives, areas = (
            np.add.reduceat(values, self._first) for values in (taken, found, found * precision)
        )
        kept = positives > 0
        return float(np.dot(variants[kept], areas[kept] / positives[kept]) / variants[kept].sum())

    def _running(self, counts: np.ndarray) -> np.ndarray:
        """Sums within each contig."""
        sums = np.cumsum(counts)
        return sums - np.repeat(sums[self._first] - counts[self._first], self._lengths)


def _auroc(taken: np.ndarray, found: np.ndarray) -> float:
    negatives = taken - found
    below = negatives.sum() - np.cumsum(negatives) + negatives / 2
    return float(np.dot(found, below) / (found.sum() * negatives.sum()))


def evaluate_labels(
    table: pd.DataFrame, baselines: Sequence[str] = (), *, resamples: int = 1000, seed: int = 0
) -> dict:
    """Tell harmful variants from harmless ones by a model's scores, and by scores that need no model.

    All predictors are judged on the variants with a score and a label; one that is missing for some says so in its
    own `n_missing`.

    Args:
        table: one row for each variant: `chrom`, `ref`, `alt`, `llr` (NaN where there is none), `positive` (True for
            harmful, None where unknown), optionally `consequence` with names of
            `genotok.evaluation.variant_effect.CONSEQUENCE_SCORES`, and the columns of `baselines`.
        baselines: columns with further scores, higher = fitter.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        `n`, `n_missing`, `positives`; `predictors`: what `areas_with_intervals` gives for `model` (-LLR),
        `model_absolute` (|LLR|), `transition`, the baselines and, given a consequence, `consequence` and
        `consequence_then_transition`; `per_consequence`: for each consequence found the same without those two.

    Raises:
        InputError: a column is missing, or a consequence is unknown.
    """
    for name in ("chrom", "ref", "alt", "llr", "positive", *baselines):
        if name not in table.columns:
            raise InputError(f"the variant table has no column {name!r}")
    judged = table[table["llr"].notna() & table["positive"].notna()]
    fitness = {
        "model": judged["llr"],
        "model_absolute": -judged["llr"].abs(),
        "transition": transition_or_transversion(judged["ref"], judged["alt"]),
    }
    fitness |= {name: judged[name] for name in baselines}
    always = list(fitness)
    if "consequence" in judged:
        fitness["consequence"] = consequence_score(judged["consequence"])
        fitness["consequence_then_transition"] = consequence_then_transition(
            fitness["consequence"], fitness["transition"]
        )
    harm = {name: -np.asarray(values, dtype=np.float64) for name, values in fitness.items()}
    positive, chrom = judged["positive"].to_numpy(dtype=bool), judged["chrom"].to_numpy()

    def judge(names: Sequence[str], rows: np.ndarray) -> dict:
        return {
            name: areas_with_intervals(
                harm[name][rows], positive[rows], chrom[rows], resamples=resamples, seed=seed
            )
            for name in names
        }

    result = {"n": len(judged), "n_missing": len(table) - len(judged), "positives": int(positive.sum())}
    result["predictors"] = judge(list(harm), np.ones(len(judged), dtype=bool))
    if "consequence" in judged:
        labels = judged["consequence"].to_numpy()
        found = [name for name in CONSEQUENCE_SCORES if (labels == name).any()]
        result["per_consequence"] = {name: judge(always, labels == name) for name in found}
    return result
