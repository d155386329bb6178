"""Where chunks begin, and how their states come back to the rows."""

from genotok.models.chunkers.blt import blt_patch_lengths
from genotok.models.chunkers.entropy_threshold import entropy_threshold

__all__ = ["blt_patch_lengths", "entropy_threshold"]
