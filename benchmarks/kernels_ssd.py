"""Mamba-2's kernels against what the device allows: `python -m benchmarks.kernels_ssd [-o FILE.json]`.

Shapes are those of the outer stage of `hnet_1stage_dna`: 131,072 rows of width 512 in bfloat16. Every line holds the
fewest bytes that must move and the operations of the chunked algorithm, over the time measured, as a fraction of the
copy and matrix-product speeds of the same run. Outputs and gradients are held against float64 first, on fewer rows
and poisoned memory. Times of kernels are medians of replayed CUDA graphs. Needs a CUDA device.
"""

from collections.abc import Callable

import torch
import triton
from torch import Tensor

from benchmarks.kernels_outer import Case, called, replayed, times, worst_error
from benchmarks.machine import arguments_on_gpu, ceilings, describe_run, median_milliseconds, write_result
from genotok.kernels.backend import reference_kernels
from genotok.kernels.causal_conv import causal_conv_silu
from genotok.kernels.gated_norm import gated_rms_norm
from genotok.kernels.ragged import Ragged
from genotok.kernels.ssd import ssd
from genotok.kernels.triton_ssd import CHUNK
from genotok.models.config import ModelConfig
from genotok.models.language_model import GenomicLM
from genotok.models.mixer_config import Mamba2Config
from genotok.models.mixers.mamba2 import Mamba2
from genotok.tokenizers import load_tokenizer

ROWS, CHECKED_ROWS, WIDTH, HEADS, P, N, TAPS = 131_072, 8192, 512, 16, 64, 128, 4
INNER = HEADS * P
CHANNELS = INNER + 2 * N
# Scores once a group, weights on x, read and write the state; backward each product gives two.
OPERATIONS = 2 * ROWS * (CHUNK * N + HEADS * (CHUNK * P + 2 * N * P))
BF16, DEVICE = torch.bfloat16, "cuda"


def milliseconds(run: Callable[[], object], repeats: int = 20, warmup: int = 3) -> float:
    """The median time of a call."""
    return median_milliseconds(run, repeats, warmup)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference over that of `wanted`."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def cases(rows: int) -> dict[str, Case]:
    """The kernels on so many rows in 16 sequences; bytes and operations are those of the chunked algorithm."""
    ragged = Ragged.uniform(16, rows // 16, DEVICE)

    def random(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (torch.randn(*shape, device=DEVICE) * scale).to(dtype).requires_grad_()

    def gated(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return gated_rms_norm(y, z, weight, 1e-5, y.dtype)

    wide, mixed, projections = 2 * rows * INNER, 2 * rows * CHANNELS, 4 * rows * N
    step = torch.nn.functional.softplus(torch.randn(rows, HEADS, device=DEVICE) / 2 - 4)
    scan = [
        random(rows, HEADS, P, dtype=BF16),
        step.requires_grad_(),
        (-torch.linspace(1, 16, HEADS, device=DEVICE)).requires_grad_(),
        random(rows, 1, N, dtype=BF16),
        random(rows, 1, N, dtype=BF16),
        random(HEADS),
    ]
    conv = [
        random(rows, CHANNELS, dtype=BF16),
        random(CHANNELS, TAPS, scale=0.3),
        random(CHANNELS, scale=0.1),
    ]
    norm = [random(rows, INNER, dtype=BF16), random(rows, INNER, dtype=BF16), random(INNER)]
    moved = 2 * wide + projections, 3 * wide + 2 * projections
    return {
        "conv_silu": Case(lambda *parts: causal_conv_silu(*parts, ragged), conv, 2 * mixed, 3 * mixed),
        "ssd": Case(
            lambda x, dt, a, b, c, skip: ssd(x, dt, a, b, c, ragged, skip=skip, dtype=x.dtype), scan, *moved
        ),
        "gated_norm": Case(gated, norm, 3 * wide, 5 * wide),
    }


def measure_kernels(limits: dict[str, float]) -> dict[str, dict]:
    """Each kernel alone: error against float64 on fewer rows, replayed time, and fraction of the two ceilings."""
    small, whole, lines = cases(CHECKED_ROWS), cases(ROWS), {}
    for name, case in whole.items():
        error = worst_error(small[name])
        forward, both = times(case, replayed)
        with reference_kernels():
            reference, reference_both = times(case, called)
        work = OPERATIONS if name == "ssd" else 0
        for part, time, bytes_, operations, of_reference in (
            ("forward", forward, case.forward, work, reference),
            ("backward", both - forward, case.backward, 2 * work, reference_both - reference),
        ):
            lines[f"{name} {part}"] = {
                "milliseconds": time,
                "bytes": bytes_,
                "flop": operations,
                "of_copy_speed": bytes_ / time / 1e9 / limits["copy_tb_s"],
                "of_matmul_speed": operations / time / 1e9 / limits["matmul_tflop_s"],
                "reference_milliseconds": of_reference,
                "relative_error": error,
            }
    return lines


def measure_mixer() -> dict[str, dict]:
    """The Mamba-2 mixer of width 512 under bf16 autocast, with the reference and with Triton."""
    torch.manual_seed(0)
    mixer, ragged = Mamba2(WIDTH, Mamba2Config(), 1e-5).to(DEVICE), Ragged.uniform(16, ROWS // 16, DEVICE)
    x = torch.randn(ROWS, WIDTH, device=DEVICE, requires_grad=True)

    def forward():
        with torch.autocast(DEVICE, BF16):
            return mixer(x, ragged)

    inputs = [x, *mixer.parameters()]
    projections = 2 * ROWS * WIDTH * (mixer.in_proj.out_features + INNER)

    def times(repeats):
        with torch.no_grad():
            alone = milliseconds(forward, repeats)
        seen = torch.randn_like(forward())
        torch.cuda.reset_peak_memory_stats()
        both = milliseconds(lambda: torch.autograd.grad(forward(), inputs, seen), repeats)
        peak = torch.cuda.max_memory_allocated() / 2**30
        return {"forward_ms": alone, "forward_backward_ms": both, "peak_gib": peak}

    lines = {"mixer triton": times(20) | {"projections_flop_forward": projections}}
    with torch.no_grad():
        found = forward()
    with reference_kernels():
        with torch.no_grad():
            lines["mixer triton"]["relative_difference"] = relative_error(found, forward())
        lines["mixer reference"] = times(3)
    return lines


def measure_model() -> dict[str, dict]:
    """`hnet_1stage_dna` forward, untrained, under bf16 autocast: 131,072 bases in windows of two lengths."""
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.preset("hnet_1stage_dna")).to(DEVICE).eval()
    letters, lines = torch.tensor(load_tokenizer("nucleotide").encode("ACGT"), device=DEVICE), {}
    for length in (8192, 512):
        ids = letters[torch.randint(4, (ROWS // length, length), device=DEVICE)]

        def run(ids=ids):
            with torch.no_grad(), torch.autocast(DEVICE, BF16):
                return model(ids, task="lm").logits

        time = milliseconds(run, 10)
        with reference_kernels():
            reference = milliseconds(run, 3, 1)
        lines[f"hnet_1stage_dna forward, L {length}"] = {
            "milliseconds": time,
            "reference_milliseconds": reference,
            "mbases_s": ROWS / time / 1e3,
        }
    return lines


def main() -> None:
    """Measure, print the table, and with -o write it as JSON."""
    arguments = arguments_on_gpu(__doc__)
    limits = ceilings()
    lines = {**measure_kernels(limits), **measure_mixer(), **measure_model()}
    for name, line in lines.items():
        print(f"{name:34}", "  ".join(f"{key} {value:.4g}" for key, value in line.items()))
    if arguments.output:
        about = describe_run(DEVICE, arguments.commit) | {"triton": triton.__version__}
        write_result(arguments.output, about | {"ceilings": limits, "lines": lines})


if __name__ == "__main__":
    main()
