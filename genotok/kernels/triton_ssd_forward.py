"""What `genotok.kernels.triton_ssd` launches forward: states, and outputs."""
# ruff: noqa: SIM108 -- inside a kernel, a conditional expression compiles both sides

import triton
import triton.language as tl

from genotok.kernels.triton_decay import chunk_decay, decay_between, sums
from genotok.kernels.triton_pieces import chunk_tile, piece, tile


@triton.jit
def _advance(
    state, us, v, head, step, high, low, total, begins, end, v_row, v_head,
    P: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    BACKWARDS: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """One head's state behind a chunk, and the log2 of the decay of the chunk."""
    rows = begins + tl.arange(0, CHUNK)
    scalars = head.to(tl.int64) * total
    last_high, last_low = sums(high, low, scalars + tl.minimum(begins + CHUNK, end) - 1, begins < end, EXACT)
    row_high, row_low = sums(high, low, scalars + rows, rows < end, EXACT)
    if BACKWARDS:
        weight = chunk_decay(row_high, row_low, EXACT)
    else:
        size = tl.load(step + scalars + rows, mask=rows < end, other=0.0)
        weight = size * decay_between(last_high, last_low, row_high, row_low, EXACT)
    vs = tile(v + head * v_head, rows, v_row, end, tl.arange(0, BLOCK_P), P)
    weighted = (vs * weight[:, None]).to(us.dtype)
    state *= chunk_decay(last_high, last_low, EXACT)
    state = tl.dot(tl.trans(us), weighted, state, input_precision=PRECISION)
    if EXACT:
        return state, last_high + last_low
    return state, last_high


@triton.jit
def states_kernel(
    u, v, step, high, low, pieces, first_rows, entering, left, span_log, kept,
    total, u_row, u_group, v_row, v_head,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    EXACT: tl.constexpr, BACKWARDS: tl.constexpr, ENTERS: tl.constexpr, KEEPS: tl.constexpr,
):  # fmt: skip
    """Walk through a span with the state of a head: state = decay * state + U^T (weight * V).

    Forwards, U is B and V is x, and the state is that of the recurrence; BACKWARDS, U is C and V the gradient of y,
    and it is the gradient of the state. With KEEPS, `kept` takes the state before each chunk of the walk, else `left`
    that behind the span.
    """
    line, head = tl.program_id(0), tl.program_id(1)
    first, end, sequence = piece(pieces, line)
    if first >= end:
        return
    u += head // (HEADS // GROUPS) * u_group
    n, p = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P)
    whole = (n < N)[:, None] & (p < P)[None, :]
    place = n[:, None] * P + p[None, :]
    at = (line.to(tl.int64) * HEADS + head) * N * P + place
    state = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
    if ENTERS:
        state = tl.load(entering + at, mask=whole, other=0.0)
    begin = tl.load(first_rows + sequence).to(tl.int32)
    chunk_line = begin // CHUNK + sequence + (first - begin) // CHUNK
    chunks = (end - first + CHUNK - 1) // CHUNK
    log = 0.0
    for k in range(chunks):
        index = chunks - 1 - k if BACKWARDS else k
        if KEEPS:
            chunk_at = ((chunk_line + index).to(tl.int64) * HEADS + head) * N * P + place
            tl.store(kept + chunk_at, state.to(kept.dtype.element_ty), mask=whole)
        begins = first + index * CHUNK
        us = tile(u, begins + tl.arange(0, CHUNK), u_row, end, n, N)
        state, passed = _advance(
            state, us, v, head, step, high, low, total, begins, end, v_row, v_head,
            P, BLOCK_P, CHUNK, PRECISION, BACKWARDS, EXACT,
        )  # fmt: skip
        log += passed
    if not KEEPS:
        tl.store(left + at, state, mask=whole)
        tl.store(span_log + line * HEADS + head, log)


@triton.jit
def pass_kernel(
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
def scan_kernel(
    x, b, c, skip, step, high, low, pieces, entering, y,
    total, x_row, x_head, b_row, b_group, c_row, c_group,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_P: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
    EXACT: tl.constexpr, ENTERS: tl.constexpr, SKIPS: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """The outputs of a span of a head, chunk after chunk, with the state in registers.

    With TMA, tiles of x, B and C go from memory to products without passing registers.
    """
    line, head = tl.program_id(0), tl.program_id(1)
    first, end, _ = piece(pieces, line)
    if first >= end:
        return
    group = head // (HEADS // GROUPS)
    if TMA:
        # Behind the shape of a descriptor, which ends with the span, there is 0.
        x = tl.make_tensor_descriptor(x, [end, HEADS * P], [x_row.to(tl.int64), 1], [CHUNK, BLOCK_P])
        b = tl.make_tensor_descriptor(b, [end, GROUPS * N], [b_row.to(tl.int64), 1], [CHUNK, BLOCK_N])
        c = tl.make_tensor_descriptor(c, [end, GROUPS * N], [c_row.to(tl.int64), 1], [CHUNK, BLOCK_N])
    n, p, q = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_P), tl.arange(0, CHUNK)
    state = tl.zeros([BLOCK_N, BLOCK_P], tl.float32)
    if ENTERS:
        place = (line.to(tl.int64) * HEADS + head) * N * P + n[:, None] * P + p[None, :]
        state = tl.load(entering + place, mask=(n < N)[:, None] & (p < P)[None, :], other=0.0)
    scalars = head.to(tl.int64) * total
    for begins in range(first, end, CHUNK):
        rows = begins + q
        inside = rows < end
        bs = chunk_tile(b, begins, end, group * b_group, b_row, N, CHUNK, BLOCK_N, TMA)
        cs = chunk_tile(c, begins, end, group * c_group, c_row, N, CHUNK, BLOCK_N, TMA)
        xs = chunk_tile(x, begins, end, head * x_head, x_row, P, CHUNK, BLOCK_P, TMA)
        scores = tl.dot(cs, tl.trans(bs), input_precision=PRECISION)
        last_high, last_low = sums(
            high, low, scalars + tl.minimum(begins + CHUNK, end) - 1, begins < end, EXACT
        )
        row_high, row_low = sums(high, low, scalars + rows, inside, EXACT)
        size = tl.load(step + scalars + rows, mask=inside, other=0.0)
        decay = decay_between(row_high[:, None], row_low[:, None], row_high[None, :], row_low[None, :], EXACT)
        # Rows behind the end read wrongly, and are not written.
        weights = tl.where(q[:, None] >= q[None, :], scores * decay * size[None, :], 0.0).to(xs.dtype)
        out = (
            tl.dot(cs, state.to(cs.dtype), input_precision=PRECISION)
            * chunk_decay(row_high, row_low, EXACT)[:, None]
        )
        out = tl.dot(weights, xs, out, input_precision=PRECISION)
        if SKIPS:
            out += tl.load(skip + head).to(tl.float32) * xs.to(tl.float32)
        at = y + rows.to(tl.int64)[:, None] * (HEADS * P) + head * P + p[None, :]
        tl.store(at, out.to(y.dtype.element_ty), mask=inside[:, None] & (p < P)[None, :])
        to_end = size * decay_between(last_high, last_low, row_high, row_low, EXACT)
        weighted = (xs * to_end[:, None]).to(bs.dtype)
        state *= chunk_decay(last_high, last_low, EXACT)
        state = tl.dot(tl.trans(bs), weighted, state, input_precision=PRECISION)
