"""`genotok motifs`: from contributions to motifs with names."""

from collections.abc import Mapping, Sequence

import numpy as np

from genotok.interpret.contributions import Contributions
from genotok.interpret.motif_files import MotifFindings
from genotok.interpret.motif_matches import match_motifs
from genotok.interpret.motifs import MotifSettings, cluster_seqlets
from genotok.interpret.seqlets import SeqletSettings, find_seqlets


def search_motifs(
    regions: Sequence[Contributions],
    *,
    control: Sequence[Contributions] = (),
    known: Mapping[str, np.ndarray] | None = None,
    seqlet_settings: SeqletSettings | None = None,
    motif_settings: MotifSettings | None = None,
    matches: int = 5,
) -> MotifFindings:
    """Find seqlets, make motifs of them and compare these with known ones.

    Args:
        regions: contributions along stretches, in memory or of `read_contributions`.
        control: contributions of sequences without motifs, see `find_seqlets`.
        known: name -> (W, 4) probabilities, as of `read_meme`; None compares with nothing.
        seqlet_settings, motif_settings: see there.
        matches: known motifs that are given for each motif.
    """
    seqlets = find_seqlets(regions, seqlet_settings, control)
    motifs = cluster_seqlets(regions, seqlets, motif_settings)
    if known is None:
        return MotifFindings(regions, seqlets, motifs)
    return MotifFindings(regions, seqlets, motifs, match_motifs(motifs, known, matches), len(known))
