"""Hyena's convolutions against what the device allows: `python -m benchmarks.kernels_hyena [-o FILE.json]`.

The gated long convolution of 131,072 rows, once by Toeplitz products on tensor cores and once by Fourier transforms,
the torch reference beside them: filters as long as the sequences, as Hyena has them, and shorter ones over one
sequence of all rows. Every line holds the relative error against float64 with poisoned memory, then milliseconds of
the forward pass and with the backward pass, and these as fractions of the copy speed and of the matrix-product speed
of the same run: the fewest bytes that must move, and the products of the direct sum. Times are medians of replayed
CUDA graphs, those of the torch references and of the whole mixer medians of calls. The last lines hold the memory of
one sequence of 2^20 rows beside its arguments, its result and their gradients. Needs a CUDA device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import triton
from torch import Tensor

from benchmarks.kernels_outer import Case, called, gradients, random, replayed, times, worst_error
from benchmarks.machine import arguments_on_gpu, ceilings, describe_run, write_result
from genotok.kernels import triton_gated_long_conv
from genotok.kernels.backend import reference_kernels
from genotok.kernels.causal_conv import causal_conv
from genotok.kernels.fft_conv import fast_length
from genotok.kernels.gated_long_conv import gated_long_conv
from genotok.kernels.ragged import Ragged
from genotok.models.mixer_config import HyenaConfig
from genotok.models.mixers.hyena import Hyena

ROWS, LONG = 1 << 17, 1 << 20
TAPS = [64, 256, 1024, 2048, 4096, 8192, 16384, ROWS]
SOME_TAPS = [256, 1024, 4096, 16384]
BF16, DEVICE = torch.bfloat16, "cuda"
WAYS = {"toeplitz": 1 << 30, "fourier": 0}
Line = dict[str, float]


@contextmanager
def only(way: str) -> Iterator[None]:
    """Within the block every length of filters goes one way."""
    before = triton_gated_long_conv.MOST_TAPS
    triton_gated_long_conv.MOST_TAPS = dict.fromkeys(before, WAYS[way])
    try:
        yield
    finally:
        triton_gated_long_conv.MOST_TAPS = before


def exact(value: Tensor, before: Tensor, behind: Tensor, taps: Tensor, skip: Tensor, length: int) -> Tensor:
    """The operation in float64, all sequences of one length."""
    gated = (value * before).view(-1, length, value.shape[1])
    size = fast_length(2 * length)
    spectrum = torch.fft.rfft(gated, size, 1) * torch.fft.rfft(taps[:length], size, 0)
    summed = torch.fft.irfft(spectrum, size, 1)[:, :length] + gated * skip
    return summed.flatten(0, 1) * behind


def long_case(length: int, taps: int, width: int, dtype: torch.dtype, rows: int = ROWS) -> Case:
    """Sequences of one length; what counts are bytes."""
    ragged = Ragged.uniform(rows // length, length, DEVICE)
    inputs = [random(rows, width, dtype=dtype) for _ in range(3)]
    inputs += [(torch.randn(taps, width, device=DEVICE) / taps**0.5).requires_grad_(), random(width)]
    size = rows * width * dtype.itemsize
    return Case(
        lambda value, before, behind, taps, skip: gated_long_conv(value, before, taps, skip, behind, ragged),
        inputs,
        4 * size,
        7 * size,
        lambda *parts: exact(*parts, length),
    )


def operations(length: int, taps: int, width: int) -> float:
    """Of the direct sum, forward."""
    pairs = taps * length - taps * (taps - 1) // 2
    return 2.0 * pairs * width * (ROWS // length)


def long_lines(length: int, taps: int, width: int, dtype: torch.dtype, limits: Line) -> dict[str, Line]:
    """The figures of one shape, by way."""
    case, lines = long_case(length, taps, width, dtype), {}
    flops = operations(length, taps, width)
    for way in WAYS:
        if way == "toeplitz" and dtype == torch.float32 and taps == ROWS:
            continue  # would take half a second a call
        with only(way):
            line = {"relative_error": worst_error(case)}
            forward, both = times(case, replayed if taps <= 4096 else lambda run: replayed(run, 2, 7))
        line |= {"forward_ms": forward, "forward_backward_ms": both}
        line["forward_of_copy"] = case.forward / forward / 1e9 / limits["copy_tb_s"]
        line["forward_backward_of_copy"] = (case.forward + case.backward) / both / 1e9 / limits["copy_tb_s"]
        line["forward_of_matmul"] = flops / forward / 1e9 / limits["matmul_tflop_s"]
        line["forward_backward_of_matmul"] = 3 * flops / both / 1e9 / limits["matmul_tflop_s"]
        lines[way] = line
    with reference_kernels():
        forward, both = times(case, called)
    lines["reference"] = {"forward_ms": forward, "forward_backward_ms": both}
    return lines


def short_line(width: int, limits: Line) -> Line:
    """The short convolution of the gates and the value, three taps."""
    ragged, size = Ragged.uniform(ROWS // 8192, 8192, DEVICE), ROWS * 3 * width * BF16.itemsize
    inputs = [random(ROWS, 3 * width, dtype=BF16), random(3 * width, 3), random(3 * width)]
    case = Case(lambda *parts: causal_conv(*parts, ragged), inputs, 2 * size, 3 * size)
    line = {"relative_error": worst_error(case)}
    forward, both = times(case, replayed)
    line |= {"forward_ms": forward, "forward_backward_ms": both}
    line["forward_of_copy"] = 2 * size / forward / 1e9 / limits["copy_tb_s"]
    line["forward_backward_of_copy"] = 5 * size / both / 1e9 / limits["copy_tb_s"]
    return line


def mixer_case(length: int, width: int) -> Case:
    """The whole mixer under autocast, its filters as long as the sequences."""
    ragged = Ragged.uniform(ROWS // length, length, DEVICE)
    mixer = Hyena(width, HyenaConfig(max_length=length)).to(DEVICE)
    inputs, size = [random(ROWS, width, dtype=BF16), *mixer.parameters()], ROWS * width * BF16.itemsize

    def run(x: Tensor, *_: Tensor) -> Tensor:
        with torch.autocast(DEVICE, BF16):
            return mixer(x, ragged)

    return Case(run, inputs, 2 * size, 2 * size)


def mixer_lines(length: int, width: int) -> dict[str, Line]:
    """Milliseconds of the whole mixer with the kernels and with the torch references."""
    case, lines = mixer_case(length, width), {}
    forward, both = times(case, called)
    lines["kernels"] = {"forward_ms": forward, "forward_backward_ms": both}
    with reference_kernels():
        forward, both = times(case, called)
    lines["reference"] = {"forward_ms": forward, "forward_backward_ms": both}
    return lines


def memory_lines(taps: int, width: int) -> dict[str, Line]:
    """GiB that 2^20 rows take beside the arguments, their gradients and the result, by way."""
    case = long_case(LONG, taps, width, BF16, LONG)
    lines = {}
    for way in WAYS if taps < LONG else ("fourier",):
        with only(way):
            size = case.inputs[0].nbytes
            forward = _peak(lambda: case.run(*case.inputs)) - 2 * size  # what is kept, and the result
            both = _peak(gradients(case, case.run)) - 5 * size - case.inputs[3].nbytes  # and the gradients
        lines[way] = {"forward_gib": forward / 2**30, "forward_backward_gib": both / 2**30}
    return lines


def _peak(run: Callable[[], object]) -> int:
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def shapes() -> Iterator[tuple[str, int, int, int, torch.dtype]]:
    """Name, length of the sequences, taps, width and dtype."""
    for width, dtype, lengths in ((256, BF16, TAPS), (256, torch.float32, TAPS), (512, BF16, SOME_TAPS)):
        name = str(dtype).removeprefix("torch.")
        for taps in lengths:
            yield f"{ROWS // taps} sequences, {taps} taps, width {width}, {name}", taps, taps, width, dtype
    for taps in SOME_TAPS:
        yield f"1 sequence, {taps} taps, width 256, bfloat16", ROWS, taps, 256, BF16


def main() -> None:
    """Measure, print the table, and with -o write it as JSON."""
    arguments = arguments_on_gpu(__doc__)
    torch.manual_seed(0)
    limits, lines = ceilings(), {}
    print("  ".join(f"{key} {value:.4g}" for key, value in limits.items()), flush=True)
    for name, *shape in shapes():
        for way, line in long_lines(*shape, limits).items():
            _add(lines, f"{name}: {way}", line)
    for width in (256, 512):
        _add(lines, f"short convolution, width 3 x {width}, bfloat16", short_line(width, limits))
    for length in (1024, 8192, ROWS):
        for way, line in mixer_lines(length, 256).items():
            _add(lines, f"mixer, {ROWS // length} sequences of {length}, width 256, bfloat16: {way}", line)
    for taps in (1024, 4096, LONG):
        for way, line in memory_lines(taps, 256).items():
            _add(lines, f"memory, 1 sequence of {LONG}, {taps} taps, width 256, bfloat16: {way}", line)
    if arguments.output:
        about = describe_run(DEVICE, arguments.commit) | {"triton": triton.__version__}
        write_result(arguments.output, about | {"ceilings": limits, "lines": lines})


def _add(lines: dict[str, Line], name: str, line: Line) -> None:
    lines[name] = line
    print(f"{name:62}", "  ".join(f"{key} {value:.3g}" for key, value in line.items()), flush=True)


if __name__ == "__main__":
    main()
