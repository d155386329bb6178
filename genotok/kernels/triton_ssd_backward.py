"""What `genotok.kernels.triton_ssd` launches backward, one chunk a program."""

import triton
import triton.language as tl

from genotok.kernels.triton_decay import chunk_decay, decay_between, sums
from genotok.kernels.triton_pieces import piece, tile


@triton.jit
def _scalars_of_head(step, high, low, line, rows, end, EXACT: tl.constexpr):
    """What a head has of decays at the `rows` (CHUNK,) of a chunk: `sums` at its last row and at all; step sizes."""
    inside = rows < end
    last_high, last_low = sums(high, low, line + end - 1, end > 0, EXACT)
    row_high, row_low = sums(high, low, line + rows, inside, EXACT)
    return last_high, last_low, row_high, row_low, tl.load(step + line + rows, mask=inside, other=0.0)


@triton.jit
def _tiles_of_head(
    x, dy, head, rows, end, x_row, x_head, dy_row, dy_head, P: tl.constexpr, BLOCK_P: tl.constexpr
):
    """x and the gradient of y, (CHUNK, BLOCK_P), at the `rows` of a chunk, 0 behind its `end`."""
    p = tl.arange(0, BLOCK_P)
    xs = tile(x + head * x_head, rows, x_row, end, p, P)
    return xs, tile(dy + head * dy_head, rows, dy_row, end, p, P).to(xs.dtype)


@triton.jit
def inputs_backward_kernel(
    x, b, c, skip, step, high, low, dy, pieces, leaving, dx, rows_out, to_scores,
    total, x_row, x_head, b_row, b_group, c_row, c_group, dy_row, dy_head, dx_row,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    EXACT: tl.constexpr, SKIPS: tl.constexpr,
):  # fmt: skip
    """The gradient of the x of a chunk, from that of the state that leaves it.

    `rows_out` (4, H, T) takes what the gradients of the scalars need of each row: of the pairs with other rows of
    the chunk, those where it is the later; for a step of one, what it gives to later chunks, and the pairs where it
    is the earlier; and the product of x and dy. `to_scores` (lines, G, CHUNK, CHUNK) takes the gradient of the
    products of B (rows) and C (columns), summed over the heads.
    """
    line, group = tl.program_id(0), tl.program_id(1)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    n, p, q = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    rows = first + q
    inside = rows < end
    bs = tile(b + group * b_group, rows, b_row, end, n, N)
    cs = tile(c + group * c_group, rows, c_row, end, n, N)
    # Transposed: the row that gives down, the row that reads across.
    scores = tl.dot(bs, tl.trans(cs), input_precision=PRECISION)
    seen = (q[:, None] <= q[None, :]) & inside[None, :]
    whole = (n < N)[:, None] & (p < P)[None, :]
    plane = tl.full([], total, tl.int64) * HEADS
    gradient = tl.zeros([CHUNK, CHUNK], tl.float32)
    begin = group * (HEADS // GROUPS)
    # Of the head behind, so that they are there when its turn comes.
    ahead = _scalars_of_head(step, high, low, begin.to(tl.int64) * total, rows, end, EXACT)
    for member in range(HEADS // GROUPS):
        head = begin + member
        scalars = head.to(tl.int64) * total
        last_high, last_low, row_high, row_low, size = ahead
        following = tl.minimum(head + 1, HEADS - 1).to(tl.int64) * total
        ahead = _scalars_of_head(step, high, low, following, rows, end, EXACT)
        xs, dys = _tiles_of_head(x, dy, head, rows, end, x_row, x_head, dy_row, dy_head, P, BLOCK_P)
        at = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        leaves = tl.load(leaving + at, mask=whole, other=0.0)
        out = rows_out + scalars + rows
        tl.store(out + 3 * plane, tl.sum(xs.to(tl.float32) * dys.to(tl.float32), 1), mask=inside)
        to_end = decay_between(last_high, last_low, row_high, row_low, EXACT)
        behind = tl.dot(bs, leaves, input_precision=PRECISION) * to_end[:, None]
        tl.store(out + plane, tl.sum(xs * behind, 1), mask=inside)
        decay = decay_between(row_high[None, :], row_low[None, :], row_high[:, None], row_low[:, None], EXACT)
        decay = tl.where(seen, decay, 0.0)
        to_x = tl.dot((scores * decay).to(xs.dtype), dys, behind, input_precision=PRECISION) * size[:, None]
        if SKIPS:
            to_x += tl.load(skip + head).to(tl.float32) * dys.to(tl.float32)
        place = dx + rows.to(tl.int64)[:, None] * dx_row + head * P + p[None, :]
        tl.store(place, to_x.to(dx.dtype.element_ty), mask=inside[:, None] & (p < P)[None, :])
        # Only now, when the registers of dx are free.
        products = tl.dot(xs, tl.trans(dys), input_precision=PRECISION) * decay
        gradient += products * size[:, None]
        pairs = products * scores
        tl.store(out + 2 * plane, tl.sum(pairs, 1), mask=inside)
        tl.store(out, tl.sum(pairs * size[:, None], 0), mask=inside)
    square = (line.to(tl.int64) * GROUPS + group) * CHUNK * CHUNK + q[:, None] * CHUNK + q[None, :]
    tl.store(to_scores + square, gradient.to(to_scores.dtype.element_ty))


@triton.jit
def projections_backward_kernel(
    x, b, c, step, high, low, dy, pieces, entering, leaving, to_scores, db, dc, through, read,
    total, x_row, x_head, b_row, b_group, c_row, c_group, dy_row, dy_head, db_row, dc_row,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """The gradients of B and C of a chunk.

    `through` (lines, H) takes the product of the state that enters the chunk with the gradient of the one that leaves
    it, `read` (H, T) that of dy with what each row reads from the former.
    """
    line, group = tl.program_id(0), tl.program_id(1)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    n, p, q = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    rows = first + q
    inside = rows < end
    to_b = tl.zeros([CHUNK, BLOCK_N], tl.float32)
    to_c = tl.zeros([CHUNK, BLOCK_N], tl.float32)
    whole = (n < N)[:, None] & (p < P)[None, :]
    bs = tile(b + group * b_group, rows, b_row, end, n, N)
    cs = tile(c + group * c_group, rows, c_row, end, n, N)
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        scalars = head.to(tl.int64) * total
        last_high, last_low, row_high, row_low, size = _scalars_of_head(
            step, high, low, scalars, rows, end, EXACT
        )
        xs, dys = _tiles_of_head(x, dy, head, rows, end, x_row, x_head, dy_row, dy_head, P, BLOCK_P)
        at = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        enters = tl.load(entering + at, mask=whole, other=0.0)
        leaves = tl.load(leaving + at, mask=whole, other=0.0)
        passed = tl.sum(tl.sum(enters.to(tl.float32) * leaves.to(tl.float32), 1), 0)
        tl.store(through + line * HEADS + head, passed * chunk_decay(last_high, last_low, EXACT))
        reads = (dys * chunk_decay(row_high, row_low, EXACT)[:, None]).to(xs.dtype)
        from_state = tl.dot(reads, tl.trans(enters), input_precision=PRECISION)
        tl.store(read + scalars + rows, tl.sum(from_state * cs, 1), mask=inside)
        to_c += from_state
        to_end = size * decay_between(last_high, last_low, row_high, row_low, EXACT)
        gives = (xs * to_end[:, None]).to(xs.dtype)
        to_b = tl.dot(gives, tl.trans(leaves), to_b, input_precision=PRECISION)
    square = (line.to(tl.int64) * GROUPS + group) * CHUNK * CHUNK + q[:, None] * CHUNK + q[None, :]
    products = tl.load(to_scores + square)
    to_b = tl.dot(products, cs, to_b, input_precision=PRECISION)
    to_c = tl.dot(tl.trans(products), bs, to_c, input_precision=PRECISION)
    mask = inside[:, None] & (n < N)[None, :]
    place = rows.to(tl.int64)[:, None]
    tl.store(dc + place * dc_row + group * N + n[None, :], to_c.to(dc.dtype.element_ty), mask=mask)
    tl.store(db + place * db_row + group * N + n[None, :], to_b.to(db.dtype.element_ty), mask=mask)


@triton.jit
def steps_backward_kernel(
    a, step, pieces, read, rows_out, through, ddt, partial, total, ddt_row,
    HEADS: tl.constexpr, BLOCK_H: tl.constexpr, CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """The gradient of the step sizes of a chunk; `partial` (lines, 3, H) for that of a, of skip and of dt's bias.

    The decay at a row acts on all pairs of rows before and from it, on the states that enter or leave the chunk
    through the rows behind or before it, and on what passes through the chunk.
    """
    line = tl.program_id(0)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    rows, heads = first + tl.arange(0, CHUNK), tl.arange(0, BLOCK_H)
    inside = (rows < end)[:, None] & (heads < HEADS)[None, :]
    at = heads.to(tl.int64)[None, :] * total + rows[:, None]
    plane = tl.full([], total, tl.int64) * HEADS
    size = tl.load(step + at, mask=inside, other=0.0)
    given = tl.load(rows_out + plane + at, mask=inside, other=0.0)
    pairs_given = tl.load(rows_out + 2 * plane + at, mask=inside, other=0.0)
    later = tl.load(read + at, mask=inside, other=0.0) + tl.load(rows_out + at, mask=inside, other=0.0)
    later -= pairs_given * size
    to_log = tl.cumsum(later, 0, reverse=True) + (tl.cumsum(given * size, 0) - given * size)
    passed = tl.load(through + line * HEADS + heads, mask=heads < HEADS, other=0.0)
    to_log = tl.where(inside, to_log + passed[None, :], 0.0)
    rate = tl.load(a + heads, mask=heads < HEADS, other=0.0).to(tl.float32)
    to_step = given + pairs_given + to_log * rate[None, :]
    if SOFTPLUS:
        small = size * (1.0 - size * (0.5 - size * (1.0 / 6.0)))
        to_step *= tl.where(size < 0.02, small, 1.0 - tl.exp(-size))
    out = ddt + rows.to(tl.int64)[:, None] * ddt_row + heads[None, :]
    tl.store(out, to_step.to(ddt.dtype.element_ty), mask=inside)
    own = partial + line.to(tl.int64) * 3 * HEADS + heads
    products = tl.load(rows_out + 3 * plane + at, mask=inside, other=0.0)
    tl.store(own, tl.sum(to_log * size, 0), mask=heads < HEADS)
    tl.store(own + HEADS, tl.sum(products, 0), mask=heads < HEADS)
    tl.store(own + 2 * HEADS, tl.sum(tl.where(inside, to_step, 0.0), 0), mask=heads < HEADS)
