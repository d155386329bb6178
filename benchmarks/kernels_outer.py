"""The outer stage's kernels against what the device allows: `python -m benchmarks.kernels_outer [-o FILE.json]`.

Shapes are those of the outer stage of H-Net: 131,072 rows of width 512, a chunk every third row. Every line holds the
fewest bytes that must move, over the time measured, as a fraction of the copy speed of the same run; attention holds
operations as a fraction of the matrix-product speed, and under a window stands beside torch's own kernel. Times are
medians of replayed CUDA graphs; those of the torch references, which wait for the host, are medians of calls. Needs a
CUDA device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from benchmarks.machine import (
    arguments_on_gpu,
    ceilings,
    describe_run,
    median_milliseconds,
    recorded,
    write_result,
)
from genotok.kernels.attention import ragged_attention, rotate, rotated_parts, torch_flash_attention
from genotok.kernels.backend import reference_kernels
from genotok.kernels.ema import ema_upsample, rewarded
from genotok.kernels.ragged import Ragged
from genotok.kernels.rms_norm import add_rms_norm
from genotok.kernels.router import boundary_probability
from genotok.kernels.swiglu import swiglu
from genotok.kernels.token_loss import linear_cross_entropy

BATCH, LENGTH, WIDTH, INTERMEDIATE, HEADS, WINDOW, VOCABULARY = 16, 8192, 512, 1408, 8, 1023, 16
ROWS, CHUNKS = BATCH * LENGTH, BATCH * -(-LENGTH // 3)
BF16, DEVICE = torch.bfloat16, "cuda"
Operation = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass
class Case:
    """One operation on one set of inputs.

    Attributes:
        run: of the inputs.
        exact: the same in float64 of inputs in float64; None where `run` under `reference_kernels` is that.
        inputs: those that gradients are taken of.
        forward, backward: bytes that must move at least, or operations.
        of: the ceiling that these count against.
        checked: a smaller one that is held against float64 in its place.
        rival: the same by a kernel of torch, which it is held against and timed beside.
    """

    run: Operation
    inputs: list[Tensor]
    forward: float
    backward: float
    exact: Operation | None = None
    of: str = "copy_tb_s"
    checked: "Case | None" = None
    rival: Operation | None = None


def replayed(run: Callable[[], object], calls: int = 8, repeats: int = 20) -> float:
    """The time of a call in milliseconds where the host adds nothing: in a CUDA graph."""
    graph = recorded(lambda: [run() for _ in range(calls)])
    graph.replay()
    return median_milliseconds(graph.replay, repeats, 0) / calls


def called(run: Callable[[], object]) -> float:
    """The time of a call in milliseconds, the host's part included."""
    return median_milliseconds(run, 5, 1)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A leaf with a gradient."""
    return torch.randn(shape, device=DEVICE).to(dtype).requires_grad_()


def exact_average(x: Tensor, p: Tensor, ragged: Ragged) -> Tensor:
    """The moving average by products of decays over 1, 2, 4, ... chunks."""
    keep = (1 - p)[:, None].index_fill(0, ragged.first_rows, 0.0)
    state, step = p[:, None] * x, 1
    while step < ragged.max_seqlen:
        state = torch.cat([state[:step], state[step:] + keep[step:] * state[:-step]])
        keep = torch.cat([torch.zeros_like(keep[:step]), keep[step:] * keep[:-step]])
        step *= 2
    return state


def ema_case(dtype: torch.dtype) -> Case:
    """Upsampling of chunks at every third row, with a router's probabilities."""
    chunk_of_row = (torch.arange(ROWS, device=DEVICE) % LENGTH % 3 == 0).cumsum(0) - 1
    ragged = Ragged.uniform(BATCH, CHUNKS // BATCH, DEVICE)
    probability = (0.5 + 0.499 * torch.rand(CHUNKS, device=DEVICE)).requires_grad_()
    size = dtype.itemsize * WIDTH
    return Case(
        lambda x, p, c: ema_upsample(x, p, c, chunk_of_row, ragged, dtype=dtype),
        [
            random(CHUNKS, WIDTH, dtype=dtype),
            probability,
            torch.rand(ROWS, device=DEVICE, requires_grad=True),
        ],
        size * (CHUNKS + ROWS),
        size * (ROWS + 2 * CHUNKS),
        lambda x, p, c: rewarded(exact_average(x, p, ragged)[chunk_of_row], c),
    )


def router_case() -> Case:
    """Boundary probabilities of bf16 queries and keys."""
    ragged, size = Ragged.uniform(BATCH, LENGTH, DEVICE), 2 * ROWS * WIDTH

    def exact(query: Tensor, key: Tensor) -> Tensor:
        prob = 0.5 - 0.5 * cosine_similarity(query[:-1], key[1:], -1)
        return torch.cat([prob.new_ones(1), prob]).index_fill(0, ragged.first_rows, 1.0)

    inputs = [random(ROWS, WIDTH, dtype=BF16) for _ in range(2)]
    return Case(lambda q, k: boundary_probability(q, k, ragged)[0], inputs, 2 * size, 4 * size, exact)


def norm_case() -> Case:
    """A bf16 addition to the float32 stream, and the bf16 norm behind it."""

    def exact(x: Tensor, added: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        x = x + added
        return x, torch.nn.functional.rms_norm(x, (WIDTH,), weight, 1e-5)

    inputs = [random(ROWS, WIDTH), random(ROWS, WIDTH, dtype=BF16), random(WIDTH)]
    run, size = in_bf16(lambda *parts: add_rms_norm(*parts, 1e-5)), ROWS * WIDTH
    return Case(run, inputs, 12 * size, 16 * size, exact)


def loss_case() -> Case:
    """The head over a small vocabulary, from float32 states with bf16 products."""
    labels, size = torch.randint(0, VOCABULARY, (ROWS,), device=DEVICE), 4 * ROWS * WIDTH
    inputs = [random(ROWS, WIDTH), random(VOCABULARY, WIDTH)]
    return Case(
        in_bf16(lambda x, weight: linear_cross_entropy(x, weight, labels)[0]),
        inputs,
        size,
        2 * size,
        lambda x, weight: cross_entropy(x @ weight.t(), labels, reduction="none"),
    )


def attention_case(lengths: list[int], checked: Case | None = None) -> Case:
    """Causal attention within a window over packed sequences."""
    ragged = Ragged.from_lengths(torch.tensor(lengths, device=DEVICE))
    seen = sum(min(place, WINDOW) + 1 for length in lengths for place in range(length))
    flops = 4 * seen * WIDTH
    inputs = [random(ragged.total, HEADS, WIDTH // HEADS, dtype=BF16) for _ in range(3)]
    run = lambda q, k, v: ragged_attention(q, k, v, ragged, window=WINDOW)  # noqa: E731
    by_torch = lambda q, k, v: torch_flash_attention(q, k, v, ragged, True, WINDOW)  # noqa: E731
    rival = by_torch if max(lengths) > WINDOW + 1 else None
    return Case(run, inputs, flops, 2.5 * flops, of="matmul_tflop_s", checked=checked, rival=rival)


def gather_case() -> Case:
    """The first rows of chunks, which torch's own operation gathers."""
    rows = (torch.arange(ROWS, device=DEVICE) % LENGTH % 3 == 0).nonzero()[:, 0]
    row = 4 * WIDTH
    inputs = [random(ROWS, WIDTH)]
    return Case(lambda x: x.index_select(0, rows), inputs, 2 * CHUNKS * row, (CHUNKS + ROWS) * row)


def in_bf16(run: Operation) -> Operation:
    """The operation under autocast."""

    def inside(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        with torch.autocast(DEVICE, BF16):
            return run(*inputs)

    return inside


def cases() -> dict[str, Callable[[], Case]]:
    """By name; each is made only when its turn comes, so that one at a time is in memory."""
    positions = torch.arange(LENGTH, device=DEVICE).repeat(BATCH)
    turned, inner = ROWS * 2 * WIDTH, ROWS * INTERMEDIATE
    return {
        "ema_upsample bf16": lambda: ema_case(BF16),
        "ema_upsample float32": lambda: ema_case(torch.float32),
        "router bf16": router_case,
        "chunk gather float32": gather_case,
        "add_rms_norm": norm_case,
        "swiglu bf16": lambda: Case(
            swiglu, [random(ROWS, 2 * INTERMEDIATE, dtype=BF16)], 6 * inner, 10 * inner
        ),
        "rotary bf16": lambda: Case(
            lambda x: rotate(x, positions, 32),
            [random(ROWS, 2 * HEADS, WIDTH // HEADS, dtype=BF16)],
            4 * turned,
            4 * turned,
        ),
        "rotary of packed rows bf16": lambda: Case(
            lambda x: rotated_parts(x, HEADS, HEADS, positions, 32),
            [random(ROWS, 3 * HEADS, WIDTH // HEADS, dtype=BF16)],
            4 * turned,
            6 * turned,
        ),
        "linear_cross_entropy": loss_case,
        "attention L 8192": lambda: attention_case([LENGTH] * BATCH, attention_case([2048] * 2)),
        "attention L 1024": lambda: attention_case([1024] * (ROWS // 1024), attention_case([1024] * 2)),
        "attention ragged": lambda: attention_case(
            [3000, 8192, 100, 5092] * 8, attention_case([1500, 1, 70, 1100])
        ),
    }


def gradients(case: Case, run: Operation) -> Callable[[], tuple[Tensor, ...]]:
    """A call of the operation and of its backward pass."""
    seen = [torch.randn_like(part) for part in _several(run(*case.inputs))]
    return lambda: torch.autograd.grad(_several(run(*case.inputs)), case.inputs, seen)


def worst_error(case: Case) -> float:
    """The largest relative error of outputs and gradients against float64, with poisoned memory; NaN if any is."""
    found, seen = _both_passes(case.run, case.inputs)
    exact = [part.detach().double().requires_grad_() for part in case.inputs]
    with reference_kernels():
        wanted, _ = _both_passes(case.exact or case.run, exact, [part.double() for part in seen])
    return _worst(found, wanted)


def difference_to_rival(case: Case) -> float:
    """The largest relative difference of outputs and gradients to those of torch's kernel; NaN if any is."""
    found, seen = _both_passes(case.run, case.inputs)
    return _worst(found, _both_passes(case.rival, case.inputs, seen)[0])


def _both_passes(
    run: Operation, inputs: list[Tensor], seen: list[Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients in memory that was poisoned, and the outputs' gradients, by default random ones."""
    poison = torch.full((1 << 29,), torch.nan, device=DEVICE)
    del poison
    found = _several(run(*inputs))
    seen = seen or [torch.randn_like(part) for part in found]
    return [*found, *torch.autograd.grad(found, inputs, seen)], seen


def _worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    pairs = zip(found, wanted, strict=True)
    errors = [(one.double() - other).norm() / other.double().norm() for one, other in pairs]
    return torch.stack(errors).max().item()


def _several(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def times(case: Case, timer: Callable[[Callable], float]) -> tuple[float, float]:
    """Milliseconds of the forward pass alone and with the backward pass."""
    with torch.no_grad():
        forward = timer(lambda: case.run(*case.inputs))
    return forward, timer(gradients(case, case.run))


def measure(case: Case, limits: dict[str, float]) -> dict[str, float]:
    """The figures of one operation."""
    # In float64 whole attention would need the products of all rows with all others.
    line = {"relative_error": worst_error(case.checked or case)}
    forward, both = times(case, replayed)
    scale = 1e9 * limits[case.of]
    line |= {"forward_ms": forward, "forward_backward_ms": both}
    line["forward_of_ceiling"] = case.forward / forward / scale
    line["forward_backward_of_ceiling"] = (case.forward + case.backward) / both / scale
    if case.rival:
        line["difference_to_torch"] = difference_to_rival(case)
        by_torch = Case(case.rival, case.inputs, case.forward, case.backward)
        line["torch_forward_ms"], line["torch_forward_backward_ms"] = times(by_torch, replayed)
    with reference_kernels():
        line["reference_forward_ms"], line["reference_forward_backward_ms"] = times(case, called)
    return line | {"forward_least": case.forward, "backward_least": case.backward}


def main() -> None:
    """Measure, print the table, and with -o write it as JSON."""
    arguments = arguments_on_gpu(__doc__)
    torch.manual_seed(0)
    limits, lines = ceilings(), {}
    print("  ".join(f"{key} {value:.4g}" for key, value in limits.items()))
    for name, make in cases().items():
        lines[name] = line = measure(make(), limits)
        print(
            f"{name:22}", "  ".join(f"{key} {value:.3g}" for key, value in line.items() if "least" not in key)
        )
    if arguments.output:
        about = describe_run(DEVICE, arguments.commit) | {"triton": triton.__version__}
        write_result(arguments.output, about | {"ceilings": limits, "lines": lines})


if __name__ == "__main__":
    main()
