"""Mamba-2's kernels against what the device allows: `python -m benchmarks.kernels_ssd [-o FILE.json]`.

Shapes are those of the outer stage of `hnet_1stage_dna`: 131,072 rows of width 512 in bfloat16. Every line holds the
fewest bytes that must move and the operations of the chunked algorithm, over the time measured, as a fraction of the
copy and matrix-product speeds of the same run. Needs a CUDA device.
"""

from collections.abc import Callable

import torch
import triton

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

ROWS, WIDTH, HEADS, P, N, TAPS = 131_072, 512, 16, 64, 128, 4
INNER = HEADS * P
CHANNELS = INNER + 2 * N
BF16, DEVICE = torch.bfloat16, "cuda"


def milliseconds(run: Callable[[], object], repeats: int = 20, warmup: int = 3) -> float:
    """The median time of a call."""
    return median_milliseconds(run, repeats, warmup)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The norm of the difference over that of `wanted`."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def forward_and_backward(run: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> Callable[[], tuple]:
    """A call of `run` and the gradients of all its inputs."""
    seen = torch.randn_like(run(*inputs))
    return lambda: torch.autograd.grad(run(*inputs), inputs, seen)


def kernels(ragged: Ragged) -> dict[str, tuple]:
    """By name: the operation, its inputs, bytes forward and backward, and operations forward and backward."""

    def random(*shape, scale=1.0, dtype=torch.float32):
        return (torch.randn(*shape, device=DEVICE) * scale).to(dtype).requires_grad_()

    wide, mixed = 2 * ROWS * INNER, 2 * ROWS * CHANNELS
    step = torch.nn.functional.softplus(torch.randn(ROWS, HEADS, device=DEVICE) / 2 - 4)
    rates = -torch.linspace(1, 16, HEADS, device=DEVICE)
    scan = [
        random(ROWS, HEADS, P, dtype=BF16),
        step.requires_grad_(),
        rates.requires_grad_(),
        random(ROWS, 1, N, dtype=BF16),
        random(ROWS, 1, N, dtype=BF16),
        random(HEADS),
    ]
    projections = 2 * 2 * ROWS * N
    # Forward: scores once a group, weights on x, read and write the state. Backward: each product gives two.
    work = 2 * ROWS * (CHUNK * N + HEADS * (CHUNK * P + 2 * N * P))
    return {
        "conv_silu": (
            lambda *parts: causal_conv_silu(*parts, ragged),
            [
                random(ROWS, CHANNELS, dtype=BF16),
                random(CHANNELS, TAPS, scale=0.3),
                random(CHANNELS, scale=0.1),
            ],
            (2 * mixed, 3 * mixed),
            (0, 0),
        ),
        "ssd": (
            lambda x, dt, a, b, c, skip: ssd(x, dt, a, b, c, ragged, skip=skip, dtype=BF16),
            scan,
            (2 * wide + projections, 3 * wide + 2 * projections),
            (work, 2 * work),
        ),
        "gated_norm": (
            lambda y, z, weight: gated_rms_norm(y, z, weight, 1e-5, BF16),
            [random(ROWS, INNER, dtype=BF16), random(ROWS, INNER, dtype=BF16), random(INNER)],
            (3 * wide, 5 * wide),
            (0, 0),
        ),
    }


def measure_kernels(limits: dict[str, float]) -> dict[str, dict]:
    """Each kernel alone: error against the reference in float32, time, and fraction of the two ceilings."""
    ragged, lines = Ragged.uniform(16, ROWS // 16, DEVICE), {}
    for name, (run, inputs, moved, work) in kernels(ragged).items():
        with torch.no_grad():
            found = run(*inputs)
            with reference_kernels():
                error = relative_error(found, run(*(part.float() for part in inputs)))
            forward = milliseconds(lambda run=run, inputs=inputs: run(*inputs))
            with reference_kernels():
                reference = milliseconds(lambda run=run, inputs=inputs: run(*inputs), 3, 1)
        both = milliseconds(forward_and_backward(run, inputs))
        for part, time, bytes_, flops in (
            ("forward", forward, moved[0], work[0]),
            ("backward", both - forward, moved[1], work[1]),
        ):
            lines[f"{name} {part}"] = {
                "milliseconds": time,
                "bytes": bytes_,
                "flop": flops,
                "of_copy_speed": bytes_ / time / 1e9 / limits["copy_tb_s"],
                "of_matmul_speed": flops / time / 1e9 / limits["matmul_tflop_s"],
            }
        lines[f"{name} forward"] |= {"relative_error": error, "reference_milliseconds": reference}
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
