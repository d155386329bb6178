"""Whether a GPU gives the gradients of letters that a CPU gives, with edges of chunks held and routed, and how fast.

python -m benchmarks.attribution_device [--quick]
"""

import argparse
import random
import time
from copy import deepcopy
from tempfile import TemporaryDirectory

import torch

from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.regions import Region
from genotok.interpret.attribution_targets import Strand, Target, letter_function, strands_of
from genotok.interpret.differentiable_letters import LogLikelihood
from genotok.models import GenomicLM, ModelConfig

MODEL = {
    "layout": ["m2", ["T2"], "m2"],
    "d_model": [256, 384],
    "d_intermediate": [0, 1024],
    "attention": {"heads": 8, "rotary_dim": 16, "window": -1},
}


def gradients(model: GenomicLM, strand: Strand, region: Region, window: int, copies: int, held: bool):
    """f of `copies` points between the letters and their mean, its gradients, and the seconds of the second pass."""
    target = Target("likelihood", window, LogLikelihood(), "")
    function = letter_function(model, target, strand, region, held)
    shares = torch.linspace(0, 1, copies, device=model.device)[:, None, None]
    mean = function.varies[:, None] * function.one_hot.new_tensor([0.25] * 4 + [0.0])
    for _ in range(2):
        x = (mean + shares * (function.one_hot - mean)).requires_grad_()
        _wait(model.device)
        began = time.perf_counter()
        values = function(x)
        (gradient,) = torch.autograd.grad(values.sum(), x)
        _wait(model.device)
        seconds = time.perf_counter() - began
    return values.detach().cpu(), gradient.cpu(), seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print a row for each way of cutting chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A short window, for a look on the CPU.")
    quick = parser.parse_args().quick
    window, copies = (64, 2) if quick else (512, 16)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu", "cpu"]
    torch.manual_seed(0)
    model = GenomicLM(ModelConfig.from_dict(MODEL)).eval().requires_grad_(False)
    with TemporaryDirectory() as folder:
        letters = bytes(random.Random(0).choices(b"ACGT", k=2 * window))
        write_fasta([("c", [letters])], f"{folder}/g.fa")
        with Reference(f"{folder}/g.fa") as reference:
            strand = strands_of(reference, "c", "forward")[0]
            region = Region("c", window - window // 8, window + window // 8)
            print(f"window {window}, region {window // 4}, {copies} points at once; {devices[1]} against cpu")
            print(
                "edges   largest difference of f   of the gradient, in shares of its largest   s cpu   s device"
            )
            for held in (True, False):
                settings = strand, region, window, copies, held
                ours, theirs = (gradients(deepcopy(model).to(device), *settings) for device in devices)
                value = (ours[0] - theirs[0]).abs().max() / ours[0].abs().max()
                gradient = (ours[1] - theirs[1]).abs().max() / ours[1].abs().max()
                name = "held" if held else "routed"
                print(f"{name:8}{value:<26.2e}{gradient:<44.2e}{ours[2]:<8.3f}{theirs[2]:.3f}")


if __name__ == "__main__":
    main()
