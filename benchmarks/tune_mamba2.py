"""How the kernels of Mamba-2 are best launched: `python -m benchmarks.tune_mamba2 scan=4:1:168,TMA=0`.

Each argument is a variant: constants of `genotok.kernels.triton_ssd`, `triton_causal_conv` and `triton_gated_norm`,
maybe with the module's name in front (`gated_norm.PROGRAMS=792`), and launches as `kernel=num_warps:num_stages`,
maybe with a bound of registers behind them. Output and gradients of a variant are held against those of the constants
as they are, on fresh random numbers; the time of every kernel is that of a profile of both passes, in milliseconds.
Shapes are those of the outer and of the main network of `hnet_1stage_dna`: 131,072 and 43,696 rows in 16 sequences.
Needs a CUDA device.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from genotok.kernels import triton_causal_conv, triton_gated_norm, triton_ssd
from genotok.kernels.mamba2 import mamba2_inner
from genotok.kernels.ragged import Ragged

SEQUENCES, INNER, STATES, HEADS, TAPS, PASSES = 16, 1024, 128, 16, 4, 4
MODULES = (triton_ssd, triton_causal_conv, triton_gated_norm)


@contextmanager
def constants(variant: str) -> Iterator[None]:
    """The variant's constants and launches, within the block."""
    launches, before = dict(triton_ssd.LAUNCHES), []
    try:
        for name, value in (part.split("=") for part in variant.split(",") if part):
            if name in launches:
                triton_ssd.LAUNCHES[name] = tuple(int(part) for part in value.split(":"))
                continue
            of, _, name = name.rpartition(".")
            owner = next((m for m in MODULES if m.__name__.endswith(of) and hasattr(m, name)), None)
            if owner is None:
                raise SystemExit(f"{name}: neither a constant nor one of the kernels {', '.join(launches)}")
            before.append((owner, name, getattr(owner, name)))
            setattr(owner, name, int(value))
        yield
    finally:
        triton_ssd.LAUNCHES.update(launches)
        for owner, name, value in before:
            setattr(owner, name, value)


def both_passes(rows: int) -> Callable[[], list[Tensor]]:
    """A call that gives the output and all gradients on random inputs of so many rows."""
    device, channels = "cuda", INNER + 2 * STATES
    projected = (torch.randn(rows, INNER + channels + HEADS, device=device) / 2).bfloat16()
    parameters = [
        torch.randn(channels, TAPS, device=device) / 3,
        torch.randn(channels, device=device) / 10,
        torch.randn(HEADS, device=device) - 3,
        torch.rand(HEADS, device=device) * 2,
        torch.ones(HEADS, device=device),
        torch.ones(INNER, device=device),
    ]
    inputs = [part.requires_grad_() for part in (projected, *parameters)]
    gradient = torch.randn(rows, INNER, device=device).bfloat16()

    def run() -> list[Tensor]:
        # A layout keeps the pieces that it was cut into, whose length a variant may change.
        ragged = Ragged.uniform(SEQUENCES, rows // SEQUENCES, device)
        out = mamba2_inner(*inputs, 1e-5, STATES, ragged)
        return [out.detach(), *torch.autograd.grad(out, inputs, gradient)]

    return run


def milliseconds(run: Callable[[], object]) -> dict[str, float]:
    """The time of each Triton kernel in one call."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(PASSES):
            run()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and event.name.endswith("_kernel"):
            name = event.name.strip("_").removesuffix("_kernel")
            times[name] = times.get(name, 0.0) + event.time_range.elapsed_us() / PASSES / 1000
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative difference of the output and of the gradients."""
    pairs = zip(found, wanted, strict=True)
    return max(((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in pairs)


def main() -> None:
    """Print a line for each variant and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="NAME=VALUE,...")
    parser.add_argument("--rows", type=int, nargs="+", default=[131_072, 43_696])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: these benchmarks need one")
    for rows in options.rows:
        run = both_passes(rows)
        wanted = run()
        for variant in ("", *options.variants):
            with constants(variant):
                off, times = difference(run(), wanted), milliseconds(run)
            parts = " ".join(f"{name} {time:.3f}" for name, time in times.items())
            print(
                f"{rows:7d} rows, {variant or 'as it is'}: {sum(times.values()):.3f} ms, {off:.0e} off; {parts}"
            )


if __name__ == "__main__":
    main()
