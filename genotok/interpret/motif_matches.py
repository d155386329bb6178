"""Which known motif each found motif is like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from genotok.interpret.meme_format import tomtom
from genotok.interpret.motifs import Motif

FEW_MOTIFS = 50  # MEME's Tomtom calls p-values rough below this


@dataclass(frozen=True)
class Match:
    """A known motif that a found one is like.

    Attributes:
        motif: name of the found one.
        known: name of the known one.
        p_value: of the best of all offsets on both strands, by Tomtom.
        q_value: share of false ones among all pairs with this p-value and less (Benjamini and Hochberg 1995).
        overlap: columns that lie over each other.
        strand: `-` where the known one is turned to its reverse complement.
    """

    motif: str
    known: str
    p_value: float
    q_value: float
    overlap: int
    strand: str


def match_motifs(motifs: Sequence[Motif], known: Mapping[str, np.ndarray], most: int = 5) -> list[Match]:
    """Compare motifs with known ones.

    Args:
        motifs: what was found; may be none.
        known: name -> (W, 4) probabilities.
        most: known motifs that are given for each, the likest first.
    """
    if not motifs:
        return []
    names = list(known)
    found = tomtom([motif.probabilities for motif in motifs], list(known.values()))
    p_values = found["p_value"]
    q_values = false_discovery_control(p_values, axis=None).reshape(p_values.shape)
    matches = []
    for row, motif in enumerate(motifs):
        for column in np.argsort(p_values[row], kind="stable")[:most].tolist():
            values = (
                float(p_values[row, column]),
                float(q_values[row, column]),
                int(found["overlap"][row, column]),
            )
            strand = "-" if found["reverse"][row, column] else "+"
            matches.append(Match(motif.name, names[column], *values, strand))
    return matches
