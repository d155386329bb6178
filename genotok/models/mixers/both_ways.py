"""A causal mixer made to look both ways, with the same weights."""

from torch import Tensor, nn

from genotok.kernels.ragged import Ragged


def both_ways(mixer: nn.Module, x: Tensor, ragged: Ragged) -> Tensor:
    """The mean of what a causal mixer makes of each sequence and of the sequence read backwards.

    The weights are shared by the two directions, so that one model can be causal in one call and look both ways
    in the next (as BiMamba of Caduceus, arXiv 2403.03234, shares its projections).

    Args:
        mixer: (T, D) and a layout to (T, D).
        x: (T, D).
        ragged: the layout.
    """
    backwards = mixer(x[ragged.mirrored_rows], ragged)[ragged.mirrored_rows]
    return (mixer(x, ragged) + backwards) / 2
