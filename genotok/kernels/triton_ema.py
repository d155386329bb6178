# ruff: noqa: RUF005 -- Triton joins tuples by + alone
"""The moving average of chunk states and its spreading over rows in Triton.

The average runs over rows instead of chunks: a row that begins a chunk moves the state, every other row passes it
on, and so each row's state is what it reads. Rows are cut into blocks; a kernel finds what each block alone leaves
behind, a second one carries that from block to block, and a third reads the chunks and writes the rows. The first
goes back from a block's last chunk, and stops as soon as nothing in front can matter, so that chunks are read about
once.

A decay d is held as 1 - d, since products of many decays near 1 would lose their digits otherwise.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import cdiv, next_power_of_2

BLOCK = 256  # rows a program works through
TILE, TILE_BACK = 16, 8  # rows at a time, forwards and backwards
SUMMED = 16  # chunks, and backwards rows, at a time where they are only summed
CARRIED, CARRIED_COLUMNS = 512, 8  # blocks and features that are carried over at a time
COLUMNS = 128  # features that a program of one warp takes
_FLOOR = tl.constexpr(1e-4)
_NEGLIGIBLE = tl.constexpr(-32.0)  # log2 of the weight under which earlier rows are left out


def ema_upsample(
    chunks: Tensor,
    prob: Tensor,
    confidence: Tensor,
    chunk_of_row: Tensor,
    ragged: Ragged,
    initial: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """As `genotok.kernels.ema.ema_upsample`."""
    with torch.cuda.device_of(chunks):
        return _EMAUpsample.apply(
            chunks,
            prob,
            confidence,
            initial,
            chunk_of_row,
            ragged.sequence_ids,
            dtype,
            torch.is_grad_enabled(),
        )


class _EMAUpsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, chunks, prob, confidence, initial, chunk_of_row, sequence, dtype, learns):
        ctx.types = prob.dtype, confidence.dtype
        chunks = chunks if chunks.stride(-1) == 1 else chunks.contiguous()
        prob = prob.float().contiguous()
        sizes, width = _Sizes(chunk_of_row, chunks), chunks.shape[1]
        steps = prob.new_empty(sizes.total)
        _mark[(cdiv(sizes.total, 1024),)](
            prob, chunk_of_row, sequence, steps, sizes.total, SIZE=1024, num_warps=4
        )
        front = [] if initial is None else [initial.float().contiguous()]
        index = (steps, chunk_of_row, sequence, *(front or [chunks]))
        shape = (sizes.total, width, chunks.stride(0))
        grid, columns = sizes.grid, sizes.columns
        flags = {"HAS_INITIAL": bool(front), **columns}
        left = sizes.block_states(chunks)
        _leave[grid](chunks, prob, *index[1:], *left, *shape, TILE=SUMMED, **flags)
        carried = sizes.carried(*left, backwards=False)
        out = chunks.new_empty(sizes.total, width, dtype=dtype)
        keep = learns and any(ctx.needs_input_grad)  # of which the second alone knows no `no_grad`
        tiles = prob.new_empty(sizes.blocks * (BLOCK // TILE_BACK) if keep else 1, width)
        kept = TILE_BACK if keep else 0
        _spread[grid](chunks, *index, carried, tiles, out, *shape, KEPT=kept, TILE=TILE, **flags)
        if keep:
            ctx.save_for_backward(chunks, prob, steps, chunk_of_row, sequence, tiles, *front)
        return out

    @staticmethod
    def backward(ctx, gradient):
        chunks, prob, steps, chunk_of_row, sequence, tiles, *front = ctx.saved_tensors
        gradient = gradient.contiguous()
        sizes, width = _Sizes(chunk_of_row, chunks), chunks.shape[1]
        left = sizes.block_states(chunks)
        grid, columns = sizes.grid, sizes.columns
        _leave_back[grid](gradient, steps, *left, sizes.total, width, TILE=SUMMED, **columns)
        carried = sizes.carried(*left, backwards=True)
        to_chunks, parts = torch.empty_like(chunks), grid[1]
        to_prob, to_confidence = prob.new_empty(parts, len(prob)), prob.new_empty(parts, sizes.total)
        to_front = [torch.empty_like(part) for part in front]
        _spread_back[grid](
            gradient,
            chunks,
            prob,
            steps,
            chunk_of_row,
            sequence,
            *(front or [chunks]),
            tiles,
            carried,
            to_chunks,
            to_prob,
            to_confidence,
            *(to_front or [to_chunks]),
            sizes.blocks,
            sizes.total,
            len(prob),
            width,
            chunks.stride(0),
            to_chunks.stride(0),
            HAS_INITIAL=bool(front),
            TILE=TILE_BACK,
            **columns,
        )
        of_prob, of_confidence = ctx.types
        to_prob, to_confidence = to_prob.sum(0).to(of_prob), to_confidence.sum(0).to(of_confidence)
        return to_chunks, to_prob, to_confidence, to_front[0] if front else None, *[None] * 4


class _Sizes:
    """How the rows and features are cut up."""

    def __init__(self, chunk_of_row: Tensor, chunks: Tensor):
        self.total, self.width = len(chunk_of_row), chunks.shape[1]
        self.blocks = cdiv(self.total, BLOCK)
        columns = min(COLUMNS, next_power_of_2(self.width))
        self.grid = self.blocks, cdiv(self.width, columns)
        self.columns = {"BLOCK": BLOCK, "COLUMNS": columns, "num_warps": 1}

    def block_states(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for what blocks leave behind: 1 - decay and state."""
        decay = like.new_empty(self.blocks, dtype=torch.float32)
        return decay, like.new_empty(self.blocks, self.width, dtype=torch.float32)

    def carried(self, decays: Tensor, states: Tensor, backwards: bool) -> Tensor:
        """What reaches each block, counted from the first or from the last one."""
        carried = states.new_empty(self.blocks + 1, self.width)
        tile = min(CARRIED, next_power_of_2(self.blocks))
        _carry[(cdiv(self.width, CARRIED_COLUMNS),)](
            decays,
            states,
            carried,
            self.blocks,
            self.width,
            TILE=tile,
            COLUMNS=CARRIED_COLUMNS,
            BACKWARDS=backwards,
            num_warps=8 if tile > 128 else 4,
        )
        return carried


@triton.jit
def _joined(first_q, first, second_q, second):
    """Two steps of state = (1 - q) state + added as one."""
    return second_q + first_q * (1 - second_q), second + (first - second_q * first)


@triton.jit
def _joined_decay(first, second):
    return second + first * (1 - second)


@triton.jit
def _step_of_chunk(prob, sequence, chunk, there):
    """The steps of chunks: p, and -p of those that begin a sequence; 0 of those that are not `there`."""
    own = tl.load(sequence + chunk, there, 0)
    first = there & (own != tl.load(sequence + chunk - 1, there & (chunk > 0), -1))
    p = tl.load(prob + chunk, there, 0.0)
    p = tl.minimum(tl.maximum(p, _FLOOR), 1 - _FLOOR)
    return tl.where(there, tl.where(first, -p, p), 0.0)


@triton.jit
def _mark(prob, chunk_of_row, sequence, steps, total, SIZE: tl.constexpr):
    """The step of each row: that of its chunk where it begins one, else 0."""
    rows = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = rows < total
    chunk = tl.load(chunk_of_row + rows, inside, 0)
    begins = inside & (chunk != tl.load(chunk_of_row + rows - 1, inside & (rows > 0), -1))
    tl.store(steps + rows, _step_of_chunk(prob, sequence, chunk, begins), inside)


@triton.jit
def _placed(block, total, chunk_of_row, BLOCK: tl.constexpr):
    """A block's first row, the rows from there to the end, and the first chunk that is read.

    Rows and chunks are counted from these, so that 32 bits hold their places.
    """
    base = block * BLOCK
    return base, (total - base).to(tl.int32), tl.load(chunk_of_row + tl.maximum(base - 1, 0))


@triton.jit
def _step(steps, base, rows, end):
    """The steps of rows, 0 outside; and their 1 - decay."""
    step = tl.load(steps + base + rows, (base + rows >= 0) & (rows < end), 0.0)
    return step, _moved(step)


@triton.jit
def _moved(step):
    """1 - decay of steps."""
    return tl.where(step < 0, 1.0, step)


@triton.jit
def _leave(
    x,
    prob,
    chunk_of_row,
    sequence,
    initial,
    decays,
    states,
    total,
    width,
    stride,
    HAS_INITIAL: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """What each block leaves behind when nothing reaches it, from the last chunk on that begins there."""
    block = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.arange(0, TILE)
    base = block * BLOCK
    first = tl.load(chunk_of_row + base - 1, base > 0, -1) + 1
    behind = tl.load(chunk_of_row + tl.minimum(base + BLOCK, total) - 1) + 1
    x += first * stride
    q, weight = tl.full([], 0.0, tl.float32), tl.full([], 0.0, tl.float32)
    state, start = tl.zeros([COLUMNS], tl.float32), (behind - first).to(tl.int32) - TILE
    while (start > -TILE) & (weight > _NEGLIGIBLE):
        chunk = start + place  # counted from the block's first one
        step = _step_of_chunk(prob, sequence, first + chunk, chunk >= 0)
        next_step = _step_of_chunk(prob, sequence, first + chunk + 1, (chunk >= -1) & (place < TILE - 1))
        there = (chunk >= 0)[:, None] & (columns < width)[None, :]
        added = tl.load(x + chunk[:, None] * stride + columns[None, :], there, 0.0).to(tl.float32)
        added *= tl.abs(step)[:, None]
        if HAS_INITIAL:
            front = tl.load(sequence + first + chunk, step < 0, 0)[:, None] * width + columns[None, :]
            in_front = tl.load(initial + front, (step < 0)[:, None] & (columns < width)[None, :], 0.0)
            added += (1 + step)[:, None] * in_front
        reached = tl.associative_scan(_moved(next_step), 0, _joined_decay, reverse=True)
        of_tile = tl.sum((1 - reached)[:, None] * added, 0)
        state += of_tile - q * of_tile
        own_q = _moved(step)
        whole = tl.sum(tl.where(place == 0, own_q + reached * (1 - own_q), 0.0), 0)
        weight += tl.sum(tl.log2(1 - own_q), 0)
        q = q + whole * (1 - q)
        start -= TILE
    tl.store(decays + block, q)
    tl.store(states + block * width + columns, state, columns < width)


@triton.jit
def _leave_back(
    gradient,
    steps,
    decays,
    states,
    total,
    width,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradient of the state at each block's first row, from its own rows; and 1 - decay to the next block's."""
    block = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    place = tl.arange(0, TILE)
    q, weight = tl.full([], 0.0, tl.float32), tl.full([], 0.0, tl.float32)
    state, start = tl.zeros([COLUMNS], tl.float32), 0
    base = block * BLOCK
    end = (total - base).to(tl.int32)
    while (start < BLOCK) & (weight > _NEGLIGIBLE):
        rows = start + place
        _, own_q = _step(steps, base, rows, end)
        own_q = tl.where(rows == 0, 0.0, own_q)
        reached = tl.associative_scan(own_q, 0, _joined_decay)
        there = (rows < end)[:, None] & (columns < width)[None, :]
        at = rows[:, None] * width + columns[None, :]
        of_rows = tl.load(gradient + base * width + at, there, 0.0).to(tl.float32)
        of_tile = tl.sum((1 - reached)[:, None] * of_rows, 0)
        state += of_tile - q * of_tile
        whole = tl.sum(tl.where(place == TILE - 1, reached, 0.0), 0)
        weight += tl.sum(tl.log2(1 - own_q), 0)
        q = q + whole * (1 - q)
        start += TILE
    _, next_q = _step(steps, base, BLOCK, end)
    tl.store(decays + block, q + next_q * (1 - q))
    tl.store(states + block * width + columns, state, columns < width)


@triton.jit
def _carry(
    decays,
    states,
    carried,
    blocks,
    width,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
    BACKWARDS: tl.constexpr,
):
    """carried[i]: the state that reaches the i-th block, counted from the first or from the last one."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < width
    place = tl.arange(0, TILE)
    state = tl.zeros([COLUMNS], tl.float32)
    tl.store(carried + columns, state, there)
    for start in range(0, blocks, TILE):
        order = (start + place).to(tl.int64)
        block = blocks - 1 - order if BACKWARDS else order
        inside = (order < blocks)[:, None] & there[None, :]
        q = tl.load(decays + block, order < blocks, 0.0)[:, None] + tl.zeros([1, COLUMNS], tl.float32)
        added = tl.load(states + block[:, None] * width + columns[None, :], inside, 0.0)
        q, added = tl.associative_scan((q, added), 0, _joined)
        reached = added + (state[None, :] - q * state[None, :])
        tl.store(carried + (order + 1)[:, None] * width + columns[None, :], reached, inside)
        state = tl.sum(tl.where((place == TILE - 1)[:, None], reached, 0.0), 0)


@triton.jit
def _kind(step):
    """Whether the step of one row begins a chunk, and whether it begins a sequence."""
    # By way of integers, since Triton's interpreter spreads no comparison of floats over a mask.
    return (step != 0).to(tl.int32) > 0, (step < 0).to(tl.int32) > 0


@triton.jit
def _tile(x, steps, chunk_of_row, base, start, end, columns, width, stride, TILE: tl.constexpr):
    """Row by row the chunk states that begin, the steps and the chunks, so that all are read before any is used."""
    values, steps_of_rows, chunk_of_rows = (), (), ()
    for i in tl.static_range(TILE):
        row = start + i
        step, _ = _step(steps, base, row, end)
        begins, _ = _kind(step)
        chunk = tl.load(chunk_of_row + base + row, row < end, 0)
        value = tl.load(x + chunk * stride + columns, (columns < width) & begins, 0.0)
        values = values + (value.to(tl.float32),)
        steps_of_rows, chunk_of_rows = steps_of_rows + (step,), chunk_of_rows + (chunk,)
    return values, steps_of_rows, chunk_of_rows


@triton.jit
def _at_first(state, initial, sequence, chunk, step, columns, width, HAS_INITIAL: tl.constexpr):
    """The state in front of a row, which at a sequence's first row is that in front of the sequence."""
    _, first = _kind(step)
    if HAS_INITIAL:
        front = initial + tl.load(sequence + chunk, first, 0) * width + columns
        return tl.where(first, tl.load(front, (columns < width) & first, 0.0), state)
    return tl.where(first, 0.0, state)


@triton.jit
def _spread(
    x,
    steps,
    chunk_of_row,
    sequence,
    initial,
    carried,
    tiles,
    out,
    total,
    width,
    stride,
    KEPT: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Each row's state; where KEPT is not 0 also that which reaches each KEPT rows."""
    block = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < width
    base, end, _ = _placed(block, total, chunk_of_row, BLOCK)
    state = tl.load(carried + block * width + columns, there, 0.0)
    for start in range(0, BLOCK, TILE):
        values, steps_of_rows, chunk_of_rows = _tile(
            x, steps, chunk_of_row, base, start, end, columns, width, stride, TILE
        )
        for i in tl.static_range(TILE):
            row, step = start + i, steps_of_rows[i]
            if KEPT and i % KEPT == 0:
                tl.store(tiles + (base + row) // KEPT * width + columns, state, there)
            state = _at_first(state, initial, sequence, chunk_of_rows[i], step, columns, width, HAS_INITIAL)
            state += tl.abs(step) * (values[i] - state)
            tl.store(
                out + (base + row) * width + columns, state.to(out.dtype.element_ty), there & (row < end)
            )


@triton.jit
def _spread_back(
    gradient,
    x,
    prob,
    steps,
    chunk_of_row,
    sequence,
    initial,
    tiles,
    carried,
    to_x,
    to_prob,
    to_confidence,
    to_initial,
    blocks,
    total,
    chunks,
    width,
    stride,
    to_stride,
    HAS_INITIAL: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The gradients, from each block's last tile to its first; the states are computed anew from `tiles`."""
    block = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    there = columns < width
    base, end, _ = _placed(block, total, chunk_of_row, BLOCK)
    back = tl.load(carried + (blocks - 1 - block) * width + columns, there, 0.0)
    _, q = _step(steps, base, BLOCK, end)
    for done in range(0, BLOCK, TILE):
        start = BLOCK - TILE - done
        gradients, moves = (), ()
        for i in tl.static_range(TILE):
            of_row = tl.load(gradient + (base + start + i) * width + columns, there & (start + i < end), 0.0)
            gradients = gradients + (of_row.to(tl.float32),)
        values, steps_of_rows, chunk_of_rows = _tile(
            x, steps, chunk_of_row, base, start, end, columns, width, stride, TILE
        )
        state = tl.load(tiles + (base + start) // TILE * width + columns, there, 0.0)
        for i in tl.static_range(TILE):
            row, step = start + i, steps_of_rows[i]
            state = _at_first(state, initial, sequence, chunk_of_rows[i], step, columns, width, HAS_INITIAL)
            moves = moves + (values[i] - state,)
            state += tl.abs(step) * moves[i]
            of_confidence = tl.sum(gradients[i] * state, 0)
            tl.store(to_confidence + part * total + base + row, of_confidence, row < end)
        for i in tl.static_range(TILE):
            step, chunk = steps_of_rows[TILE - 1 - i], chunk_of_rows[TILE - 1 - i]
            begins, first = _kind(step)
            back = gradients[TILE - 1 - i] + (back - q * back)
            raw = tl.load(prob + chunk, begins, 0.0)
            free = (raw >= _FLOOR) & (raw <= 1 - _FLOOR)
            of_prob = tl.where(free, tl.sum(back * moves[TILE - 1 - i], 0), 0.0)
            tl.store(to_prob + part * chunks + chunk, of_prob, begins)
            to_value = (tl.abs(step) * back).to(to_x.dtype.element_ty)
            tl.store(to_x + chunk * to_stride + columns, to_value, there & begins)
            if HAS_INITIAL:
                front = to_initial + tl.load(sequence + chunk, first, 0) * width + columns
                tl.store(front, (1 + step) * back, there & first)
            q = tl.where(first, 1.0, step)
