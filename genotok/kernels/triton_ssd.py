"""Triton kernels of Mamba-2's state space (arXiv 2405.21060, section 6), forward and backward.

Each sequence is cut into chunks of CHUNK rows, and runs of chunks into spans. A program walks through the chunks of
a span with the state of one head in registers, so that states touch memory once a span:

1. `_cumulate_kernel`: log2 decays summed up within each chunk;
2. `_states_kernel`: what each span leaves behind; `_pass_kernel`: the state that enters each span. Neither runs
   where every sequence is one span;
3. `_scan_kernel`: the outputs.

Backward, `_states_kernel` writes the state that enters each chunk and, walking back, the gradient of the state that
leaves it. `_inputs_backward_kernel` and `_projections_backward_kernel` then take each chunk on its own, one head of
the group after the other, so that the gradients of B and C are summed without atomics; `_steps_backward_kernel`
gathers the gradient of the step sizes. Chunks never cross sequences, so no masks of segments are needed.

States and decays are float32 throughout; a state is rounded only as operand of a matrix product.
"""
# ruff: noqa: SIM108 -- inside a kernel, a conditional expression compiles both sides

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.triton_pieces import piece

CHUNK = 64
PROGRAMS = 256  # spans x heads aimed at: enough to fill the device, few enough to pass few states
LARGEST_STATE = 128, 64  # N and P of one head's state that registers hold
COLUMNS = 128  # of B and C, that one program takes in the backward pass
# num_warps and num_stages for inputs of 2 bytes, by measurement on an H100 and an H200.
LAUNCHES = {
    "states": (4, 1),
    "scan": (4, 2),
    "chunks": (4, 1),
    "inputs_backward": (4, 1),
    "projections_backward": (8, 3),
}


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), accurate for small exp(x) too."""
    e = tl.exp(tl.minimum(x, 20.0))
    one = 1.0 + e
    small = tl.where(one == 1.0, e, tl.log(one) * (e / tl.where(one == 1.0, 1.0, one - 1.0)))
    return tl.where(x > 20.0, x, small)


@triton.jit
def _tile(base, rows, row_stride, end, columns, width):
    """Rows x columns of a matrix; 0 outside of it."""
    at = base + rows.to(tl.int64)[:, None] * row_stride + columns[None, :]
    return tl.load(at, mask=(rows < end)[:, None] & (columns < width)[None, :], other=0.0)


@triton.jit
def _cumulate_kernel(
    dt, a, bias, pieces, step, high, low, total, dt_row,
    HEADS: tl.constexpr, BLOCK_H: tl.constexpr, CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Step sizes (H, T), and the running sum of log2 decays within the chunk as `high` + `low` (H, T).

    Summed in float64 and split so that differences of `high` are exact: behind strong decays, weak ones keep
    their precision.
    """
    first, end, _ = piece(pieces, tl.program_id(0))
    if first >= end:
        return
    rows, heads = first + tl.arange(0, CHUNK), tl.arange(0, BLOCK_H)
    inside = (rows < end)[:, None] & (heads < HEADS)[None, :]
    size = _tile(dt, rows, dt_row, end, heads, HEADS).to(tl.float32)
    if SOFTPLUS:
        size = _softplus(size + tl.load(bias + heads, mask=heads < HEADS, other=0.0).to(tl.float32)[None, :])
    rate = tl.load(a + heads, mask=heads < HEADS, other=0.0).to(tl.float32)
    log2_decay = tl.maximum((size * rate[None, :]).to(tl.float64) * 1.4426950408889634, -127.0)
    summed = tl.cumsum(tl.where(inside, log2_decay, 0.0), 0)
    coarse = tl.floor(summed * 256.0) / 256.0
    at = heads.to(tl.int64)[None, :] * total + rows[:, None]
    tl.store(step + at, size, mask=inside)
    tl.store(high + at, coarse.to(tl.float32), mask=inside)
    tl.store(low + at, (summed - coarse).to(tl.float32), mask=inside)


@triton.jit
def _states_kernel(
    u, v, step, high, low, pieces, first_rows, entering, left, span_log, kept, c, dy, read,
    total, u_row, u_group, v_row, v_head, c_row, c_group, dy_row, dy_head,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    BACKWARDS: tl.constexpr, ENTERS: tl.constexpr, KEEPS: tl.constexpr, READS: tl.constexpr,
):  # fmt: skip
    """Walk through a span: state = decay * state + U^T (weight * V).

    Forwards, U is B and V is x, and the state is that of the recurrence; BACKWARDS, U is C and V the gradient of y,
    and it is the gradient of the state. With KEEPS, `kept` takes the state before each chunk of the walk, else `left`
    that behind the span; with READS, `read` (H, T) takes the product of dy with what each row reads from the former.
    """
    line, head = tl.program_id(0), tl.program_id(1)
    first, end, sequence = piece(pieces, line)
    if first >= end:
        return
    group = head // (HEADS // GROUPS)
    n, p = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P)
    whole = (n < N)[:, None] & (p < P)[None, :]
    place = n[:, None] * P + p[None, :]
    at = (line.to(tl.int64) * HEADS + head) * N * P + place
    if ENTERS:
        state = tl.load(entering + at, mask=whole, other=0.0)
    else:
        state = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
    begin = tl.load(first_rows + sequence).to(tl.int32)
    chunk_line = begin // CHUNK + sequence + (first - begin) // CHUNK
    chunks = (end - first + CHUNK - 1) // CHUNK
    u += group * u_group
    v += head * v_head
    scalars = head.to(tl.int64) * total
    log = 0.0
    for k in range(chunks):
        index = chunks - 1 - k if BACKWARDS else k
        if KEEPS:
            chunk_at = ((chunk_line + index).to(tl.int64) * HEADS + head) * N * P + place
            operand = state.to(kept.dtype.element_ty)
            tl.store(kept + chunk_at, operand, mask=whole)
        begins = first + index * CHUNK
        rows = begins + tl.arange(0, CHUNK)
        last = scalars + tl.minimum(begins + CHUNK, end) - 1
        last_high, last_low = tl.load(high + last), tl.load(low + last)
        row_high = tl.load(high + scalars + rows, mask=rows < end, other=0.0)
        row_low = tl.load(low + scalars + rows, mask=rows < end, other=0.0)
        if BACKWARDS:
            weight = tl.exp2(row_high + row_low)
        else:
            size = tl.load(step + scalars + rows, mask=rows < end, other=0.0)
            weight = size * tl.exp2(last_high - row_high + (last_low - row_low))
        if READS:
            cs = _tile(c + group * c_group, rows, c_row, end, n, N)
            dys = _tile(dy + head * dy_head, rows, dy_row, end, p, P)
            before = tl.dot(cs, operand, input_precision=PRECISION) * tl.exp2(row_high + row_low)[:, None]
            tl.store(read + scalars + rows, tl.sum(before * dys, 1), mask=rows < end)
        us = _tile(u, rows, u_row, end, n, N)
        vs = _tile(v, rows, v_row, end, p, P)
        weighted = (vs * weight[:, None]).to(us.dtype)
        state *= tl.exp2(last_high + last_low)
        state = tl.dot(tl.trans(us), weighted, state, input_precision=PRECISION)
        log += last_high + last_low
    if not KEEPS:
        tl.store(left + at, state, mask=whole)
        tl.store(span_log + line * HEADS + head, log)


@triton.jit
def _pass_kernel(
    states, span_log, first_rows, initial, final, span_rows, total, batch,
    HEADS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    BACKWARDS: tl.constexpr, BEGINS: tl.constexpr, ENDS: tl.constexpr,
):  # fmt: skip
    """Replace what each span of a sequence leaves by what enters it; `initial` enters the first of the walk."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    element = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    inside = element < SIZE
    begin = tl.load(first_rows + sequence).to(tl.int32)
    behind = tl.load(first_rows + sequence + 1, mask=sequence + 1 < batch, other=total).to(tl.int32)
    line, spans = begin // span_rows + sequence, (behind - begin + span_rows - 1) // span_rows
    own = (sequence.to(tl.int64) * HEADS + head) * SIZE + element
    if BEGINS:
        state = tl.load(initial + own, mask=inside, other=0.0).to(tl.float32)
    else:
        state = tl.zeros([BLOCK], tl.float32)
    for k in range(spans):
        span = line + (spans - 1 - k if BACKWARDS else k)
        at = (span.to(tl.int64) * HEADS + head) * SIZE + element
        left = tl.load(states + at, mask=inside, other=0.0)
        tl.store(states + at, state, mask=inside)
        state = tl.exp2(tl.load(span_log + span * HEADS + head)) * state + left
    if ENDS:
        tl.store(final + own, state, mask=inside)


@triton.jit
def _scan_kernel(
    x, b, c, skip, step, high, low, pieces, entering, y,
    total, x_row, x_head, b_row, b_group, c_row, c_group,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    ENTERS: tl.constexpr, SKIPS: tl.constexpr,
):  # fmt: skip
    """The outputs of a span of one head, chunk after chunk, with the state in registers."""
    line, head = tl.program_id(0), tl.program_id(1)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    group = head // (HEADS // GROUPS)
    n, p, q = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    if ENTERS:
        whole = (n < N)[:, None] & (p < P)[None, :]
        place = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        state = tl.load(entering + place, mask=whole, other=0.0)
    else:
        state = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
    x += head * x_head
    b += group * b_group
    c += group * c_group
    scalars = head.to(tl.int64) * total
    for begins in range(first, end, CHUNK):
        rows = begins + q
        inside = rows < end
        last = scalars + tl.minimum(begins + CHUNK, end) - 1
        last_high, last_low = tl.load(high + last), tl.load(low + last)
        row_high = tl.load(high + scalars + rows, mask=inside, other=0.0)
        row_low = tl.load(low + scalars + rows, mask=inside, other=0.0)
        size = tl.load(step + scalars + rows, mask=inside, other=0.0)
        xs = _tile(x, rows, x_row, end, p, P)
        bs = _tile(b, rows, b_row, end, n, N)
        cs = _tile(c, rows, c_row, end, n, N)
        between = (row_high[:, None] - row_high[None, :]) + (row_low[:, None] - row_low[None, :])
        seen = (q[:, None] >= q[None, :]) & inside[:, None]
        decay = tl.exp2(tl.where(seen, between, float("-inf")))
        scores = tl.dot(cs, tl.trans(bs), input_precision=PRECISION)
        out = tl.dot(cs, state.to(cs.dtype), input_precision=PRECISION) * tl.exp2(row_high + row_low)[:, None]
        weights = (scores * decay * size[None, :]).to(xs.dtype)
        out = tl.dot(weights, xs, out, input_precision=PRECISION)
        if SKIPS:
            out += tl.load(skip + head).to(tl.float32) * xs.to(tl.float32)
        at = y + rows.to(tl.int64)[:, None] * (HEADS * P) + head * P + p[None, :]
        tl.store(at, out.to(y.dtype.element_ty), mask=inside[:, None] & (p < P)[None, :])
        to_end = size * tl.exp2(last_high - row_high + (last_low - row_low))
        state *= tl.exp2(last_high + last_low)
        weighted = (xs * to_end[:, None]).to(bs.dtype)
        state = tl.dot(tl.trans(bs), weighted, state, input_precision=PRECISION)


@triton.jit
def _inputs_backward_kernel(
    x, b, c, skip, step, high, low, dy, pieces, leaving, dx, rows_out,
    total, x_row, x_head, b_row, b_group, c_row, c_group, dy_row, dy_head, dx_row,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    SKIPS: tl.constexpr,
):  # fmt: skip
    """The gradient of the x of a chunk, from that of the state that leaves it.

    `rows_out` (4, H, T) takes what the gradients of the scalars need of each row: of the pairs with other rows of
    the chunk, those where it is the later minus those where it is the earlier; of what it gives to later chunks;
    of its input; and the product of x and dy.
    """
    line, group = tl.program_id(0), tl.program_id(1)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    n, p, q = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    rows = first + q
    inside = rows < end
    bs = _tile(b + group * b_group, rows, b_row, end, n, N)
    cs = _tile(c + group * c_group, rows, c_row, end, n, N)
    # Transposed: the row that gives down, the row that reads across.
    scores = tl.dot(bs, tl.trans(cs), input_precision=PRECISION)
    seen = (q[:, None] <= q[None, :]) & inside[None, :]
    whole = (n < N)[:, None] & (p < P)[None, :]
    plane = tl.full([], total, tl.int64) * HEADS
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        scalars = head.to(tl.int64) * total
        last_high, last_low = tl.load(high + scalars + end - 1), tl.load(low + scalars + end - 1)
        row_high = tl.load(high + scalars + rows, mask=inside, other=0.0)
        row_low = tl.load(low + scalars + rows, mask=inside, other=0.0)
        size = tl.load(step + scalars + rows, mask=inside, other=0.0)
        xs = _tile(x + head * x_head, rows, x_row, end, p, P)
        dys = _tile(dy + head * dy_head, rows, dy_row, end, p, P).to(xs.dtype)
        at = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        leaves = tl.load(leaving + at, mask=whole, other=0.0)
        to_end = tl.exp2(last_high - row_high + (last_low - row_low))
        behind = tl.dot(bs, leaves, input_precision=PRECISION) * to_end[:, None]
        given = size * tl.sum(xs * behind, 1)
        between = (row_high[None, :] - row_high[:, None]) + (row_low[None, :] - row_low[:, None])
        weights = scores * tl.exp2(tl.where(seen, between, float("-inf")))
        to_inputs = tl.dot(weights.to(xs.dtype), dys, behind, input_precision=PRECISION)
        pairs = weights * tl.dot(xs, tl.trans(dys), input_precision=PRECISION) * size[:, None]
        to_x = to_inputs * size[:, None]
        if SKIPS:
            to_x += tl.load(skip + head).to(tl.float32) * dys.to(tl.float32)
        place = dx + rows.to(tl.int64)[:, None] * dx_row + head * P + p[None, :]
        tl.store(place, to_x.to(dx.dtype.element_ty), mask=inside[:, None] & (p < P)[None, :])
        out = rows_out + scalars + rows
        tl.store(out, tl.sum(pairs, 0) - tl.sum(pairs, 1), mask=inside)
        tl.store(out + plane, given, mask=inside)
        tl.store(out + 2 * plane, tl.sum(xs * to_inputs, 1), mask=inside)
        tl.store(out + 3 * plane, tl.sum(xs.to(tl.float32) * dys.to(tl.float32), 1), mask=inside)


@triton.jit
def _projections_backward_kernel(
    x, b, c, step, high, low, dy, pieces, entering, leaving, db, dc, through,
    total, x_row, x_head, b_row, b_group, c_row, c_group, dy_row, dy_head, db_row, dc_row,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of B and C of a chunk, for BLOCK_N of their columns.

    `through` (lines, H, columns / BLOCK_N) takes the product of the state that enters the chunk with the gradient of
    the one that leaves it.
    """
    line, group, part = tl.program_id(1), tl.program_id(2), tl.program_id(0)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    n, p, q = part * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    rows = first + q
    inside = rows < end
    seen = (q[:, None] >= q[None, :]) & inside[:, None]
    to_scores = tl.zeros([CHUNK, CHUNK], tl.float32)
    to_b = tl.zeros([CHUNK, BLOCK_N], tl.float32)
    to_c = tl.zeros([CHUNK, BLOCK_N], tl.float32)
    state_mask = (n < N)[:, None] & (p < P)[None, :]
    for member in range(HEADS // GROUPS):
        head = group * (HEADS // GROUPS) + member
        scalars = head.to(tl.int64) * total
        last_high, last_low = tl.load(high + scalars + end - 1), tl.load(low + scalars + end - 1)
        row_high = tl.load(high + scalars + rows, mask=inside, other=0.0)
        row_low = tl.load(low + scalars + rows, mask=inside, other=0.0)
        size = tl.load(step + scalars + rows, mask=inside, other=0.0)
        xs = _tile(x + head * x_head, rows, x_row, end, p, P)
        dys = _tile(dy + head * dy_head, rows, dy_row, end, p, P).to(xs.dtype)
        at = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        enters = tl.load(entering + at, mask=state_mask, other=0.0)
        leaves = tl.load(leaving + at, mask=state_mask, other=0.0)
        passed = tl.sum(tl.sum(enters.to(tl.float32) * leaves.to(tl.float32), 1), 0)
        parts = tl.num_programs(0)
        tl.store(through + (line * HEADS + head) * parts + part, passed * tl.exp2(last_high + last_low))
        between = (row_high[:, None] - row_high[None, :]) + (row_low[:, None] - row_low[None, :])
        decay = tl.exp2(tl.where(seen, between, float("-inf")))
        to_scores += tl.dot(dys, tl.trans(xs), input_precision=PRECISION) * decay * size[None, :]
        reads = (dys * tl.exp2(row_high + row_low)[:, None]).to(xs.dtype)
        to_c = tl.dot(reads, tl.trans(enters), to_c, input_precision=PRECISION)
        to_end = size * tl.exp2(last_high - row_high + (last_low - row_low))
        gives = (xs * to_end[:, None]).to(xs.dtype)
        to_b = tl.dot(gives, tl.trans(leaves), to_b, input_precision=PRECISION)
    bs = _tile(b + group * b_group, rows, b_row, end, n, N)
    cs = _tile(c + group * c_group, rows, c_row, end, n, N)
    to_scores = to_scores.to(bs.dtype)
    to_c = tl.dot(to_scores, bs, to_c, input_precision=PRECISION)
    to_b = tl.dot(tl.trans(to_scores), cs, to_b, input_precision=PRECISION)
    mask = inside[:, None] & (n < N)[None, :]
    place = rows.to(tl.int64)[:, None]
    tl.store(dc + place * dc_row + group * N + n[None, :], to_c.to(dc.dtype.element_ty), mask=mask)
    tl.store(db + place * db_row + group * N + n[None, :], to_b.to(db.dtype.element_ty), mask=mask)


@triton.jit
def _steps_backward_kernel(
    a, step, pieces, read, rows_out, through, ddt, partial, total, ddt_row,
    HEADS: tl.constexpr, BLOCK_H: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr, SOFTPLUS: tl.constexpr,
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
    later = tl.load(read + at, mask=inside, other=0.0) + tl.load(rows_out + at, mask=inside, other=0.0)
    given = tl.load(rows_out + plane + at, mask=inside, other=0.0)
    to_log = tl.cumsum(later, 0, reverse=True) + (tl.cumsum(given, 0) - given)
    for part in range(PARTS):
        passed = through + (line * HEADS + heads) * PARTS + part
        to_log += tl.load(passed, mask=heads < HEADS, other=0.0)[None, :]
    to_log = tl.where(inside, to_log, 0.0)
    rate = tl.load(a + heads, mask=heads < HEADS, other=0.0).to(tl.float32)
    to_step = tl.load(rows_out + 2 * plane + at, mask=inside, other=0.0) + to_log * rate[None, :]
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


@dataclass
class Decays:
    """What the kernels read of the step sizes: three float32 tensors (H, T), see `_cumulate_kernel`."""

    step: Tensor
    high: Tensor
    low: Tensor


@dataclass(frozen=True)
class Sizes:
    """Shapes of a call, how a program is laid out, and the layout's pieces."""

    heads: int
    groups: int
    n: int
    p: int
    ragged: Ragged
    span: int
    precision: str

    @classmethod
    def of(cls, x: Tensor, b: Tensor, ragged: Ragged, span: int | None = None) -> "Sizes":
        """Of x (T, H, P) and b (T, G, N); `span` chunks are walked by one program, by default what fills a device."""
        if span is None:
            rows = max(1, ragged.total * x.shape[1] // PROGRAMS)
            span = min(triton.next_power_of_2(-(-rows // CHUNK)), 64)
        precision = "tf32x3" if x.dtype == torch.float32 else "tf32"
        return cls(x.shape[1], b.shape[1], b.shape[2], x.shape[2], ragged, span, precision)

    @property
    def constants(self) -> dict:
        """What the kernels know while they are compiled.

        float32 always takes the largest tiles: with Triton 3.6 on an H100, those of 16 columns ended in an illegal
        memory access.
        """
        least = LARGEST_STATE if self.precision == "tf32x3" else (16, 16)
        return {
            "HEADS": self.heads,
            "GROUPS": self.groups,
            "N": self.n,
            "P": self.p,
            "BLOCK_N": max(least[0], triton.next_power_of_2(self.n)),
            "BLOCK_P": max(least[1], triton.next_power_of_2(self.p)),
            "CHUNK": CHUNK,
            "PRECISION": self.precision,
        }

    @property
    def chunks(self) -> Tensor:
        """The pieces of one chunk each."""
        return self.ragged.pieces(CHUNK)

    @property
    def spans(self) -> Tensor:
        """The pieces of one span each."""
        return self.ragged.pieces(CHUNK * self.span)

    @property
    def one_span(self) -> bool:
        """Whether no sequence is longer than a span."""
        return self.ragged.max_seqlen <= CHUNK * self.span


def launch(kernel: str, x: Tensor) -> dict[str, int]:
    """How a kernel is launched; float32 tiles are too large to be fetched ahead."""
    warps, stages = LAUNCHES[kernel]
    return (
        {"num_warps": warps, "num_stages": stages}
        if x.element_size() == 2
        else {"num_warps": 8, "num_stages": 1}
    )


def state_fits(p: int, n: int) -> bool:
    """Whether one head's state (N, P) fits into a program's registers."""
    return n <= LARGEST_STATE[0] and p <= LARGEST_STATE[1]


def cumulate(dt: Tensor, a: Tensor, bias: Tensor | None, sizes: Sizes) -> Decays:
    """`Decays` of dt (T, H) and a (H,); with `bias` (H,), of softplus(dt + bias)."""
    step, high, low = torch.empty(3, sizes.heads, len(dt), device=dt.device, dtype=torch.float32)
    _cumulate_kernel[(len(sizes.chunks),)](
        dt, a, bias, sizes.chunks, step, high, low, len(dt), dt.stride(0),
        HEADS=sizes.heads, BLOCK_H=triton.next_power_of_2(sizes.heads), CHUNK=CHUNK, SOFTPLUS=bias is not None,
    )  # fmt: skip
    return Decays(step, high, low)


def _spans_leave(
    u: Tensor, v: Tensor, decays: Decays, sizes: Sizes, backwards: bool
) -> tuple[Tensor, Tensor]:
    """The state (lines, H, N, P) that each span alone leaves, and the log2 of its decay (lines, H)."""
    lines = len(sizes.spans)
    states = torch.empty(lines, sizes.heads, sizes.n, sizes.p, device=u.device, dtype=torch.float32)
    log = torch.empty(lines, sizes.heads, device=u.device)
    _states_kernel[(lines, sizes.heads)](
        u, v, decays.step, decays.high, decays.low, sizes.spans, sizes.ragged.first_rows,
        None, states, log, None, None, None, None,
        len(u), u.stride(0), u.stride(1), v.stride(0), v.stride(1), 0, 0, 0, 0, **sizes.constants,
        BACKWARDS=backwards, ENTERS=False, KEEPS=False, READS=False, **launch("states", u),
    )  # fmt: skip
    return states, log


def _chunks_enter(
    u: Tensor,
    v: Tensor,
    decays: Decays,
    sizes: Sizes,
    entering: Tensor | None,
    backwards: bool,
    reader: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The state before each chunk of the walk (lines, H, N, P).

    Given a `reader`, C and dy, also the product (H, T) of dy with what each row reads from that state.
    """
    states = torch.empty(len(sizes.chunks), sizes.heads, sizes.n, sizes.p, device=u.device, dtype=u.dtype)
    c, dy = (None, None) if reader is None else reader
    strides = (0, 0, 0, 0) if reader is None else (*c.stride()[:2], *dy.stride()[:2])
    read = None if reader is None else torch.empty_like(decays.step)
    _states_kernel[(len(sizes.spans), sizes.heads)](
        u, v, decays.step, decays.high, decays.low, sizes.spans, sizes.ragged.first_rows,
        entering, None, None, states, c, dy, read,
        len(u), u.stride(0), u.stride(1), v.stride(0), v.stride(1), *strides, **sizes.constants,
        BACKWARDS=backwards, ENTERS=entering is not None, KEEPS=True, READS=reader is not None,
        **launch("chunks", u),
    )  # fmt: skip
    return states, read


def _entering(
    u: Tensor,
    v: Tensor,
    decays: Decays,
    sizes: Sizes,
    initial: Tensor | None,
    backwards: bool = False,
    ends: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """The state (lines, H, N, P) that enters each span (None for zeros), and behind the walk (B, H, N, P)."""
    if sizes.one_span and not ends:
        return None if initial is None else initial[sizes.spans[:, 2].long()].float(), None
    states, log = _spans_leave(u, v, decays, sizes, backwards)
    final = None
    if ends:
        final = torch.empty(
            sizes.ragged.batch, sizes.heads, sizes.n, sizes.p, device=u.device, dtype=torch.float32
        )
    block = min(1024, triton.next_power_of_2(sizes.n * sizes.p))
    grid = (sizes.ragged.batch, sizes.heads, triton.cdiv(sizes.n * sizes.p, block))
    _pass_kernel[grid](
        states, log, sizes.ragged.first_rows, initial, final, CHUNK * sizes.span, len(u), sizes.ragged.batch,
        HEADS=sizes.heads, SIZE=sizes.n * sizes.p, BLOCK=block,
        BACKWARDS=backwards, BEGINS=initial is not None, ENDS=ends,
    )  # fmt: skip
    return states, final


def scan(
    x: Tensor,
    b: Tensor,
    c: Tensor,
    decays: Decays,
    skip: Tensor | None,
    sizes: Sizes,
    dtype: torch.dtype,
    initial: Tensor | None = None,
    ends: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """y (T, H, P) in `dtype`, the states that enter the spans, and with `ends` those behind the sequences."""
    entering, final = _entering(b, x, decays, sizes, initial, ends=ends)
    y = torch.empty(x.shape, device=x.device, dtype=dtype)
    _scan_kernel[(len(sizes.spans), sizes.heads)](
        x, b, c, skip, decays.step, decays.high, decays.low, sizes.spans, entering, y,
        len(x), x.stride(0), x.stride(1), b.stride(0), b.stride(1), c.stride(0), c.stride(1), **sizes.constants,
        ENTERS=entering is not None, SKIPS=skip is not None,
        **launch("scan", x),
    )  # fmt: skip
    return y, entering, final


@dataclass
class Gradients:
    """Where `scan_backward` writes: dx (T, H, P), db and dc (T, G, N), ddt (T, H); rows may lie apart."""

    dx: Tensor
    db: Tensor
    dc: Tensor
    ddt: Tensor


def scan_backward(
    x: Tensor,
    b: Tensor,
    c: Tensor,
    a: Tensor,
    decays: Decays,
    skip: Tensor | None,
    sizes: Sizes,
    entering: Tensor | None,
    dy: Tensor,
    into: Gradients,
    softplus: bool = False,
    to_final: Tensor | None = None,
    begins: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Fill `into`; with `softplus`, ddt is that of what went into it.

    Returns:
        (3, H), the gradients of a, of skip, and of the bias in front of softplus; and, with `begins`, those of the
        initial states (B, H, N, P).
    """
    enters, read = _chunks_enter(b, x, decays, sizes, entering, False, (c, dy))
    leaving, to_initial = _entering(c, dy, decays, sizes, to_final, backwards=True, ends=begins)
    leaves, _ = _chunks_enter(c, dy, decays, sizes, leaving, True)
    rows_out = x.new_empty(4, sizes.heads, len(x), dtype=torch.float32)
    strides = (x.stride(0), x.stride(1), b.stride(0), b.stride(1), c.stride(0), c.stride(1), *dy.stride()[:2])
    _inputs_backward_kernel[(len(sizes.chunks), sizes.groups)](
        x, b, c, skip, decays.step, decays.high, decays.low, dy, sizes.chunks,
        leaves, into.dx, rows_out, len(x), *strides, into.dx.stride(0), **sizes.constants,
        SKIPS=skip is not None, **launch("inputs_backward", x),
    )  # fmt: skip
    constants = sizes.constants
    constants["BLOCK_N"] = min(constants["BLOCK_N"], COLUMNS)
    parts = triton.cdiv(sizes.n, constants["BLOCK_N"])
    through = x.new_empty(len(sizes.chunks), sizes.heads, parts, dtype=torch.float32)
    _projections_backward_kernel[(parts, len(sizes.chunks), sizes.groups)](
        x, b, c, decays.step, decays.high, decays.low, dy, sizes.chunks, enters, leaves, into.db, into.dc, through,
        len(x), *strides, into.db.stride(0), into.dc.stride(0), **constants, **launch("projections_backward", x),
    )  # fmt: skip
    partial = x.new_zeros(len(sizes.chunks), 3, sizes.heads, dtype=torch.float32)
    _steps_backward_kernel[(len(sizes.chunks),)](
        a, decays.step, sizes.chunks, read, rows_out, through, into.ddt, partial, len(x), into.ddt.stride(0),
        HEADS=sizes.heads, BLOCK_H=triton.next_power_of_2(sizes.heads), PARTS=parts, CHUNK=CHUNK,
        SOFTPLUS=softplus,
    )  # fmt: skip
    return partial.sum(0), to_initial


class SSD(torch.autograd.Function):
    """y and, with `ends`, the final states, of `genotok.kernels.ssd.ssd_with_states`."""

    @staticmethod
    def forward(ctx, x, dt, a, b, c, skip, initial, ragged, dtype, ends, span=None):
        """See `ssd_with_states`; x, b and c are of one dtype."""
        x, dt, b, c = (part if part.stride(-1) == 1 else part.contiguous() for part in (x, dt, b, c))
        a, skip = a.contiguous(), None if skip is None else skip.contiguous()
        sizes = Sizes.of(x, b, ragged, span)
        with torch.cuda.device_of(x):
            decays = cumulate(dt, a, None, sizes)
            start = None if initial is None else initial.float().contiguous()
            y, entering, final = scan(x, b, c, decays, skip, sizes, dtype, start, ends)
        ctx.save_for_backward(x, dt, a, b, c, skip, initial, entering)
        ctx.sizes = sizes
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx, dy, to_final):
        """Gradients in the dtypes of the inputs."""
        x, dt, a, b, c, skip, initial, entering = ctx.saved_tensors
        sizes = ctx.sizes
        dy = torch.zeros_like(x) if dy is None else dy.contiguous()
        to_final = None if to_final is None else to_final.contiguous()
        into = Gradients(
            *(torch.empty(part.shape, device=x.device, dtype=part.dtype) for part in (x, b, c, dt))
        )
        begins = initial is not None and ctx.needs_input_grad[6]
        with torch.cuda.device_of(x):
            decays = cumulate(dt, a, None, sizes)
            scalars, to_initial = scan_backward(
                x, b, c, a, decays, skip, sizes, entering, dy, into, to_final=to_final, begins=begins
            )
        to_a, to_skip, _ = scalars
        return (
            into.dx,
            into.ddt,
            to_a.to(a.dtype),
            into.db,
            into.dc,
            None if skip is None else to_skip.to(skip.dtype),
            to_initial.to(initial.dtype) if begins else None,
            *[None] * 4,
        )
