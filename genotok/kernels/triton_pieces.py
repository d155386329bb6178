"""How Triton kernels read the pieces that `Ragged.pieces` cuts sequences into."""

import triton
import triton.language as tl


@triton.jit
def piece(pieces, line):
    """Of a line: its first row, the row behind its last, and its sequence."""
    return tl.load(pieces + 3 * line), tl.load(pieces + 3 * line + 1), tl.load(pieces + 3 * line + 2)
