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


@triton.jit
def chunk_tile(
    source, begins, end, column, row_stride, width,
    CHUNK: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """(CHUNK, COLUMNS) of a matrix from row `begins` and `column` on.

    From a pointer, 0 from row `end` and from `width` columns on; with TMA `source` is a tensor descriptor.
    """
    if TMA:
        return source.load([begins, column])
    else:  # said, since Triton compiles what stands behind an `if` that returns
        return tile(
            source + column, begins + tl.arange(0, CHUNK), row_stride, end, tl.arange(0, COLUMNS), width
        )
