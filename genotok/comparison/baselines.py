"""What can be known without any of the arms: counts of words, on the same splits."""

from pathlib import Path
from typing import Any

import numpy as np

from genotok.comparison.measures import probe_accuracy, probe_data
from genotok.comparison.settings import ProbeTable
from genotok.evaluation.bits_per_base import Tally, baseline_bits
from genotok.evaluation.kmer_counts import kmer_frequencies

ORDERS = (2, 4, 8, 11)
WORD = 3  # letters of the words that the probe counts


def measure_baselines(plan: dict[str, Any]) -> dict[str, Any]:
    """Bits per base of Markov models that the training sequence was counted for, and a probe of the shares of 3-mers.

    Args:
        plan: of `genotok.comparison.plan.make_plan`.

    Returns:
        JSON values: `bits_per_base` by genome and model; `probe` as `genotok.comparison.measures.Measured`, or None.
    """
    shared = plan["settings"]
    found: dict[str, dict[str, Tally]] = {}
    for name, contigs in baseline_bits(Path(shared["shards"]), "test", ORDERS).items():
        for (genome, _), tally in contigs.items():
            total = found.setdefault(genome, {}).setdefault(name, Tally())
            total.bits += tally.bits
            total.nucleotides += tally.nucleotides
    bits = {
        genome: {name: total.per_base() for name, total in models.items()} for genome, models in found.items()
    }
    return {"bits_per_base": bits, "probe": _probe(shared)}


def _probe(shared: dict[str, Any]) -> dict[str, Any] | None:
    if shared["probe"] is None:
        return None
    data = probe_data(ProbeTable(**shared["probe"]))
    words = np.asarray(kmer_frequencies(data.rows.sequences, WORD, False).toarray())
    return probe_accuracy(words, data, shared["draws"]).as_json()
