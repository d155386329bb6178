"""How Triton kernels read the pieces that `Ragged.pieces` cuts sequences into, and the rows of a matrix there."""

import triton
import triton.language as tl


@triton.jit
def piece(pieces, line):
    """Of a line of `pieces` (lines, 3): its first row, the row behind its last, and its sequence."""
    return tl.load(pieces + 3 * line), tl.load(pieces + 3 * line + 1), tl.load(pieces + 3 * line + 2)


@triton.jit
def tile(base, rows, row_stride, end, columns, width):
    """(rows, columns) of a matrix whose rows lie `row_stride` apart; 0 from row `end` and column `width` on."""
    at = base + rows.to(tl.int64)[:, None] * row_stride + columns[None, :]
    return tl.load(at, mask=(rows < end)[:, None] & (columns < width)[None, :], other=0.0)
