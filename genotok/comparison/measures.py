"""What is measured of a trained arm.

Each measure is a number and what it would have been in bootstrap samples of what it was measured on: blocks of
contigs, sites of variants, labelled sequences. The samples are the same for every arm and seed, so that differences
between arms are those of the same draws; see `genotok.comparison.intervals`.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genotok.comparison.settings import ProbeTable, VariantSettings
from genotok.evaluation.bits_per_base import Chunks, window_bits
from genotok.evaluation.embeddings import Embedder
from genotok.evaluation.linear_probe import Features, fit_and_predict
from genotok.evaluation.probe import LabelledSplits, ProbeSettings, read_data
from genotok.evaluation.resampling import draw_weights, drawn_metrics, point_metrics
from genotok.interpret.stability import WINDOW, stability_in_windows
from genotok.models import GenomicLM
from genotok.models.prediction_heads import HeadConfig
from genotok.report.scored_alleles import read_alleles
from genotok.shards.reader import ShardDataset
from genotok.variants.score import score_vcf

DIGITS = 6  # of samples, which are many
BOOTSTRAP_SEED = 0
PROBE_SEED = 0
LAST_LETTERS = 64  # of a window, in which readings that have recovered agree


@dataclass
class Measured:
    """A number, and what it is in each bootstrap sample (None where a sample leaves it undefined)."""

    value: float | None
    drawn: list[float | None]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"value": self.value, "drawn": self.drawn}


def measured(value: float | None, drawn: np.ndarray) -> Measured:
    """A number and its samples; what is no number is None."""
    known = None if value is None or not np.isfinite(value) else float(value)
    rounded = [float(f"{one:.{DIGITS}g}") if np.isfinite(one) else None for one in drawn]
    return Measured(known, rounded)


def bits_per_base(
    model: GenomicLM, shards: Path, block: int, draws: int, batch_size: int, split: str = "test"
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Bits for each certain nucleotide of each genome of a split, blocks of its contigs drawn together.

    Returns:
        By genome, what is measured; and `stages`, the chunks as `genotok evaluate` counts them.
    """
    chunks = Chunks()
    sums: dict[tuple[str, str, int], np.ndarray] = {}
    for window, bits, begin in window_bits(model, ShardDataset(shards, split), batch_size, chunks=chunks):
        place = (window.genome, window.contig, window.start // block)
        known = int((~window.ambiguous[begin:]).sum())
        sums[place] = sums.get(place, np.zeros(2)) + np.array([bits[begin:].sum(), known])
    return bits_of_blocks(sums, draws), {"stages": chunks.summary()}


def bits_of_blocks(sums: dict[tuple[str, str, int], np.ndarray], draws: int) -> dict[str, Measured]:
    """Bits per base of each genome, of (bits, nucleotides) by (genome, contig, block)."""
    found = {}
    for genome in dict.fromkeys(genome for genome, _, _ in sums):
        bits, bases = np.array([part for (of, _, _), part in sums.items() if of == genome]).T
        weights = draw_weights(np.arange(len(bits)), draws, BOOTSTRAP_SEED)
        found[genome] = measured(bits.sum() / bases.sum(), weights @ bits / (weights @ bases))
    return found


def variant_correlation(
    model_folder: Path, settings: VariantSettings, draws: int, device: str, threads: int
) -> Measured:
    """Spearman's correlation of LLR (mean of both strands) and measured effects, alleles of a site drawn together."""
    with tempfile.TemporaryDirectory() as scratch:
        scored, table = Path(scratch) / "scored.vcf.gz", Path(scratch) / "scores.parquet"
        more = {"device": device, "threads": threads, "workers": 0, "command": "genotok compare run"}
        score_vcf(
            settings.vcf, Path(settings.reference), model_folder, str(scored), window=settings.window, parquet=table,
            precision="auto", **more,
        )  # fmt: skip
        alleles = read_alleles(table, scored, settings.truth, None)
    known = alleles[alleles["llr"].notna() & alleles["truth"].notna()]
    head = HeadConfig("regression", 1)
    scores, truth = known["llr"].to_numpy()[:, None], known["truth"].to_numpy()[:, None]
    weights = draw_weights(known["pos"].to_numpy(), draws, BOOTSTRAP_SEED)
    drawn = drawn_metrics(scores, truth, head, weights)["spearman"]
    return measured(point_metrics(scores, truth, head)["spearman"], drawn)


def probe_data(settings: ProbeTable) -> LabelledSplits:
    """The labelled sequences and the one split of them that all arms share."""
    how = ProbeSettings(test_fraction=settings.test_fraction, seed=PROBE_SEED)
    return read_data(
        Path(settings.table), [settings.label], None, settings.sequence, "classification", None, how
    )


def probe_accuracy(features: Features, data: LabelledSplits, draws: int) -> Measured:
    """Share of held-out rows whose class a logistic regression on features (R, D) finds, copies drawn together."""
    ((train, test),) = data.splits[0]
    fitted = fit_and_predict({"features": features}, data.rows, data.groups, train, test, PROBE_SEED)
    head, labels = data.rows.head, data.rows.labels[test]
    weights = draw_weights(data.groups[test], draws, BOOTSTRAP_SEED)
    drawn = drawn_metrics(fitted.predictions, labels, head, weights)["accuracy"]
    return measured(point_metrics(fitted.predictions, labels, head)["accuracy"], drawn)


def embeddings(model: GenomicLM, data: LabelledSplits) -> np.ndarray:
    """(R, D) mean states of the sequences behind the last norm."""
    return Embedder(model).embed(data.rows.sequences)


def boundary_stability(model: GenomicLM, shards: Path, sites: int, batch_size: int) -> list[dict[str, Any]]:
    """How boundaries change with one substitution and with a shift by one base, of each stage, outermost first.

    Returns:
        `stage` (-1 for the tokens of a tokenizer); `sites`; `changed`: boundaries that come or go with a
        substitution, a site; `recovered`: bases after which readings that begin a base apart agree, the median of
        the sites, None where they still differ in the last 64 letters.
    """
    windows = stability_windows(shards, sites)
    found = stability_in_windows(model, windows, batch_size=batch_size) if windows else []
    return [
        {
            "stage": one.stage,
            "sites": one.sites,
            "changed": one.substitution_all,
            "recovered": one.recovered if one.recovered <= WINDOW - LAST_LETTERS else None,
        }
        for one in found
    ]


def stability_windows(shards: Path, sites: int, split: str = "test") -> list[str]:
    """Windows of 512 certain letters, spread over a split; fewer where it has no more."""
    dataset, found = ShardDataset(shards, split), []
    length = min(WINDOW, dataset.manifest.window)
    letters = np.array(list(dataset.manifest.letter_tokenizer.letters))
    for index in np.linspace(0, len(dataset) - 1, min(sites, len(dataset))).round().astype(int).tolist():
        window = dataset[index]
        if length == WINDOW and len(window.ids) >= WINDOW and not window.ambiguous[:WINDOW].any():
            found.append("".join(letters[window.ids[:WINDOW]]))
    return found
