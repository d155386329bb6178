"""Triton kernels of Mamba-2's state space (arXiv 2405.21060, section 6), forward and backward.

Each sequence is cut into chunks of CHUNK rows, and runs of chunks into spans. A program walks through the chunks of
a span with the state of one head in registers, so that states touch memory once a span:

1. `cumulate_kernel`: log2 decays summed up within each chunk;
2. `states_kernel`: what each span leaves behind; `pass_kernel`: the state that enters each span. Neither runs
   where every sequence is one span;
3. `scan_kernel`: the outputs; tiles of x, B and C are fetched by the tensor memory accelerator, where there is one.

Backward, `states_kernel` writes the state that enters each chunk and, walking back, the gradient of the state that
leaves it. `inputs_backward_kernel` and `projections_backward_kernel` then take each chunk on its own, one head of
the group after the other, so that the gradients of B and C are summed without atomics; `steps_backward_kernel`
gathers the gradient of the step sizes. Chunks never cross sequences, so no masks of segments are needed.

States and decays are float32 throughout; a state is rounded only as operand of a matrix product.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from genotok.kernels.backend import has_room_to_fetch_ahead, has_tensor_memory_accelerator
from genotok.kernels.ragged import Ragged
from genotok.kernels.tile_sizes import cdiv, next_power_of_2
from genotok.kernels.triton_decay import cumulate_kernel
from genotok.kernels.triton_ssd_backward import (
    inputs_backward_kernel,
    projections_backward_kernel,
    steps_backward_kernel,
)
from genotok.kernels.triton_ssd_forward import pass_kernel, scan_kernel, states_kernel

CHUNK = 64
PROGRAMS = 256  # spans x heads aimed at: enough to fill the device, few enough to pass few states
LONGEST_SPAN = 128  # chunks
LARGEST_STATE = 128, 64  # N and P of one head's state that registers hold
TMA = 1  # whether the scan's tiles are fetched by the tensor memory accelerator, where there is one
# num_warps, num_stages and, where they are bounded, registers of a thread, for inputs of 2 bytes: by measurement on
# an H200 (`python -m benchmarks.tune_mamba2`).
LAUNCHES = {
    "states": (8, 3),
    "scan": (4, 2, 232),
    "inputs_backward": (4, 2),
    "projections_backward": (8, 3),
}


@dataclass
class Decays:
    """What the kernels read of the step sizes: float32 tensors (H, T), see `cumulate_kernel`."""

    step: Tensor
    high: Tensor
    low: Tensor | None


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
            span = min(next_power_of_2(cdiv(rows, CHUNK)), LONGEST_SPAN)
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
            "BLOCK_N": max(least[0], next_power_of_2(self.n)),
            "BLOCK_P": max(least[1], next_power_of_2(self.p)),
            "CHUNK": CHUNK,
            "PRECISION": self.precision,
            "EXACT": self.exact,
        }

    @property
    def exact(self) -> bool:
        """Whether running sums of decays have two parts; one of float32 is finer than operands of 2 bytes."""
        return self.precision == "tf32x3"

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
    if x.element_size() > 2:
        return {"num_warps": 8, "num_stages": 1}
    found = dict(zip(("num_warps", "num_stages", "maxnreg"), LAUNCHES[kernel], strict=False))
    return found if has_room_to_fetch_ahead(x.device) else found | {"num_stages": 1}


def fetches_tiles(*tensors: Tensor) -> bool:
    """Whether the tensor memory accelerator fetches tiles of (T, G, W), from addresses that are multiples of 16."""
    return (
        TMA > 0
        and has_tensor_memory_accelerator(tensors[0].device)
        and all(
            tensor.element_size() == 2
            and tensor.stride(1) == tensor.shape[2] == next_power_of_2(tensor.shape[2]) >= 16
            and tensor.stride(0) >= tensor.shape[1] * tensor.shape[2]
            and tensor.stride(0) % 8 == tensor.data_ptr() % 16 == 0
            for tensor in tensors
        )
    )


def _room_for_descriptors(size: int, _alignment: int, _stream: int | None) -> Tensor:
    """So many bytes, in which programs make their tensor descriptors."""
    return torch.empty(size, device="cuda", dtype=torch.int8)


def state_fits(p: int, n: int) -> bool:
    """Whether one head's state (N, P) fits into a program's registers."""
    return n <= LARGEST_STATE[0] and p <= LARGEST_STATE[1]


def cumulate(dt: Tensor, a: Tensor, bias: Tensor | None, sizes: Sizes) -> Decays:
    """`Decays` of dt (T, H) and a (H,); with `bias` (H,), of softplus(dt + bias)."""
    parts = torch.empty(3 if sizes.exact else 2, sizes.heads, len(dt), device=dt.device, dtype=torch.float32)
    step, high, low = *parts[:2], parts[2] if sizes.exact else None
    cumulate_kernel[(len(sizes.chunks),)](
        dt, a, bias, sizes.chunks, step, high, low, len(dt), dt.stride(0),
        HEADS=sizes.heads, BLOCK_H=next_power_of_2(sizes.heads), CHUNK=CHUNK, SOFTPLUS=bias is not None,
        EXACT=sizes.exact,
    )  # fmt: skip
    return Decays(step, high, low)


def _spans_leave(
    u: Tensor, v: Tensor, decays: Decays, sizes: Sizes, backwards: bool
) -> tuple[Tensor, Tensor]:
    """The state (lines, H, N, P) that each span alone leaves, and the log2 of its decay (lines, H)."""
    lines = len(sizes.spans)
    states = torch.empty(lines, sizes.heads, sizes.n, sizes.p, device=u.device, dtype=torch.float32)
    log = torch.empty(lines, sizes.heads, device=u.device)
    states_kernel[(lines, sizes.heads)](
        u, v, decays.step, decays.high, decays.low, sizes.spans, sizes.ragged.first_rows, None, states, log, None,
        len(u), u.stride(0), u.stride(1), v.stride(0), v.stride(1), **sizes.constants,
        BACKWARDS=backwards, ENTERS=False, KEEPS=False, **launch("states", u),
    )  # fmt: skip
    return states, log


def _chunks_enter(
    u: Tensor, v: Tensor, decays: Decays, sizes: Sizes, entering: Tensor | None, backwards: bool
) -> Tensor:
    """The state before each chunk of the walk (lines, H, N, P)."""
    states = torch.empty(len(sizes.chunks), sizes.heads, sizes.n, sizes.p, device=u.device, dtype=u.dtype)
    states_kernel[(len(sizes.spans), sizes.heads)](
        u, v, decays.step, decays.high, decays.low, sizes.spans, sizes.ragged.first_rows,
        entering, None, None, states,
        len(u), u.stride(0), u.stride(1), v.stride(0), v.stride(1), **sizes.constants,
        BACKWARDS=backwards, ENTERS=entering is not None, KEEPS=True, **launch("states", u),
    )  # fmt: skip
    return states


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
    block = min(1024, next_power_of_2(sizes.n * sizes.p))
    grid = (sizes.ragged.batch, sizes.heads, cdiv(sizes.n * sizes.p, block))
    pass_kernel[grid](
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
    by_tma = fetches_tiles(x, b, c)
    if by_tma:
        triton.set_allocator(_room_for_descriptors)  # in place of another one that this thread may have
    scan_kernel[(len(sizes.spans), sizes.heads)](
        x, b, c, skip, decays.step, decays.high, decays.low, sizes.spans, entering, y,
        len(x), x.stride(0), x.stride(1), b.stride(0), b.stride(1), c.stride(0), c.stride(1), **sizes.constants,
        TMA=by_tma, ENTERS=entering is not None, SKIPS=skip is not None, **launch("scan", x),
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
    enters = _chunks_enter(b, x, decays, sizes, entering, False)
    leaving, to_initial = _entering(c, dy, decays, sizes, to_final, backwards=True, ends=begins)
    leaves = _chunks_enter(c, dy, decays, sizes, leaving, True)
    rows_out = x.new_empty(4, sizes.heads, len(x), dtype=torch.float32)
    strides = (x.stride(0), x.stride(1), b.stride(0), b.stride(1), c.stride(0), c.stride(1), *dy.stride()[:2])
    to_scores = x.new_empty(len(sizes.chunks), sizes.groups, CHUNK, CHUNK)
    inputs_backward_kernel[(len(sizes.chunks), sizes.groups)](
        x, b, c, skip, decays.step, decays.high, decays.low, dy, sizes.chunks,
        leaves, into.dx, rows_out, to_scores, len(x), *strides, into.dx.stride(0), **sizes.constants,
        SKIPS=skip is not None, **launch("inputs_backward", x),
    )  # fmt: skip
    through, read = (
        x.new_empty(len(sizes.chunks), sizes.heads, dtype=torch.float32),
        torch.empty_like(decays.step),
    )
    projections_backward_kernel[(len(sizes.chunks), sizes.groups)](
        x, b, c, decays.step, decays.high, decays.low, dy, sizes.chunks,
        enters, leaves, to_scores, into.db, into.dc, through, read,
        len(x), *strides, into.db.stride(0), into.dc.stride(0),
        **sizes.constants, **launch("projections_backward", x),
    )  # fmt: skip
    partial = x.new_zeros(len(sizes.chunks), 3, sizes.heads, dtype=torch.float32)
    steps_backward_kernel[(len(sizes.chunks),)](
        a, decays.step, sizes.chunks, read, rows_out, through, into.ddt, partial, len(x), into.ddt.stride(0),
        HEADS=sizes.heads, BLOCK_H=next_power_of_2(sizes.heads), CHUNK=CHUNK, SOFTPLUS=softplus,
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
