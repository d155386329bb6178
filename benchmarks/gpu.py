"""Training and inference of whole models on one GPU: `python -m benchmarks.gpu [-o FILE.json]`.

The work is that of the measured peer (the official H-Net code with its CUDA kernels): 131,072 bases a step in windows
of one length, bf16, forward pass with cross-entropy and ratio loss and backward pass, no optimizer; a vocabulary of
256; chunk boundaries at every third base, which the router's probabilities do not move, so that all code has the same
number of chunks. `free` rows let the router decide, and `dna` rows have genotok's own vocabulary of 16. `room` rows
have a fixed room for chunks, so that the host never waits, and `graph` rows replay the whole pass as a CUDA graph.

Before any timing, loss and gradients of a smaller model of each kind are held against the float32 reference on fresh
random letters; `benchmarks.kernels_*` hold each kernel against float64. Times are medians between device events, of
windows that are drawn anew; the ceilings of the device are measured in the same run.
"""

import argparse
import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import ceilings, describe_run, median_milliseconds, recorded, write_result
from genotok.kernels.backend import reference_kernels
from genotok.kernels.ragged import Ragged
from genotok.models import GenomicLM, ModelConfig
from genotok.models.chunkers.routing import Boundaries, RoutingChunker
from genotok.models.cost import model_cost, training_flops
from genotok.tokenizers import load_tokenizer
from genotok.training.block_execution import run_blocks
from genotok.training.config import CHECKPOINTING
from genotok.training.objective import ratio_loss

RESULTS = Path(__file__).parent / "results"
BASES, EVERY, RATIO_WEIGHT = 131_072, 3, 0.02
ROOM = 0.336  # chunks a row: a little more than every third
LAYOUTS = {
    "hnet M15": (["m3T1", ["M15"], "m4"], [1408, 1024]),
    "hnet T15": (["m3T1", ["T15"], "m4"], [1408, 1408]),
    "isotropic T9": (["T9"], [1408]),
    "isotropic M10": (["M10"], [1024]),
}
# What the official code reached on one H200 (torch 2.11, bf16): millions of bases a second and GiB, by window.
PEER = {
    ("hnet M15", 8192): {"train": 0.534, "forward": 1.707, "gib": 27.6},
    ("hnet M15", 1024): {"train": 0.505, "forward": 2.169, "gib": 27.3},
    ("hnet T15", 8192): {"train": 0.680, "forward": 2.485, "gib": 27.2},
    ("hnet T15", 1024): {"train": 0.759, "forward": 2.678, "gib": 27.2},
    ("isotropic T9", 8192): {"train": 0.655, "forward": 2.266, "gib": 21.7},
    ("isotropic T9", 1024): {"train": 1.282, "forward": 4.166, "gib": 21.7},
    ("isotropic M10", 8192): {"train": 0.819, "forward": 2.958, "gib": 25.5},
    ("isotropic M10", 1024): {"train": 0.828, "forward": 2.936, "gib": 25.5},
}


class EveryThird(RoutingChunker):
    """The router, whose probabilities are worked out and whose decisions are not its own."""

    def forward(self, x: Tensor, ragged: Ragged, causal: bool = True) -> Boundaries:
        """Boundaries at every third row of each sequence."""
        found = super().forward(x, ragged, causal)
        rows = torch.arange(ragged.max_seqlen, device=x.device) % EVERY == 0
        return Boundaries(found.prob, rows.repeat(ragged.batch), ragged)


@dataclass
class Row:
    """One line of the table: a model at one window length.

    Attributes:
        name: of the layout.
        length: bases a window.
        tokenizer: `byte` has the peer's vocabulary of 256, `nucleotide` genotok's of 16.
        free: whether the router decides where chunks begin.
        compiled: whether blocks are compiled.
        mode: `eager`; `room`, chunks have a fixed room; or `graph`, and the pass is replayed as a CUDA graph too.
        checkpointing: what the backward pass works out again, see `genotok.training.block_execution.run_blocks`.
    """

    name: str
    length: int
    tokenizer: str = "byte"
    free: bool = False
    compiled: bool = False
    mode: str = "eager"
    checkpointing: str = "none"

    @property
    def room(self) -> tuple[float, ...]:
        """Of the chunks of each stage, as a share of its rows; none where it is not fixed."""
        stages = len(LAYOUTS[self.name][1]) - 1
        return () if self.mode == "eager" else (ROOM,) * stages

    @property
    def title(self) -> str:
        """As printed."""
        kinds = [("dna", self.tokenizer == "nucleotide"), ("free", self.free), ("compiled", self.compiled)]
        kinds.append((self.mode, self.mode != "eager"))
        kinds.append((self.checkpointing, self.checkpointing != "none"))
        return " ".join([self.name, *(kind for kind, here in kinds if here)])

    def config(self, width: int = 512) -> ModelConfig:
        """The model; narrower ones have fewer heads."""
        layout, intermediate = LAYOUTS[self.name]
        stages = len(intermediate)
        return ModelConfig(
            layout=layout,
            d_model=[width] * stages,
            d_intermediate=[wide * width // 512 for wide in intermediate],
            attention={
                "heads": [width // 64] * stages,
                "rotary_dim": [32] * stages,
                "window": [1023, -1][:stages],
            },
            tokenizer=self.tokenizer,
        )

    def model(self, device: str, width: int = 512) -> GenomicLM:
        """With weights drawn anew."""
        model = GenomicLM(self.config(width)).to(device)
        if not self.free:
            for chunker in (part for part in model.modules() if isinstance(part, RoutingChunker)):
                chunker.__class__ = EveryThird
        run_blocks(model, self.checkpointing, self.compiled)
        return model

    def letters(self, device: str, bases: int = BASES) -> Tensor:
        """(B, L) token ids of random A, C, G, T."""
        table = torch.tensor(load_tokenizer(self.tokenizer).encode("ACGT"), device=device)
        return table[torch.randint(0, 4, (bases // self.length, self.length), device=device)]


def loss_of(model: GenomicLM, ids: Tensor, room: tuple[float, ...] = ()) -> Tensor:
    """Cross-entropy and ratio loss of a batch, as training weighs them."""
    output = model(ids, task="lm", labels=ids, chunk_capacity=room)
    loss = output.loss
    for stage in output.packed_boundaries:
        chosen = stage.mask.float().mean()
        loss = loss + RATIO_WEIGHT * ratio_loss(chosen, stage.prob.mean(), float(EVERY))
    return loss


def train_pass(model: GenomicLM, ids: Tensor, room: tuple[float, ...] = ()) -> Tensor:
    """Forward and backward in bf16."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(ids.device.type, torch.bfloat16):
        loss = loss_of(model, ids, room)
    loss.backward()
    return loss


@torch.no_grad()
def forward_pass(model: GenomicLM, ids: Tensor, room: tuple[float, ...] = ()) -> Tensor:
    """Logits in bf16."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        return model(ids, task="lm", chunk_capacity=room).logits


def replayed(run: Callable[[Tensor], Tensor], ids: Tensor) -> Callable[[Tensor], None]:
    """`run` as a CUDA graph, which takes its letters into one place and leaves its results in another."""
    place = ids.clone()
    graph = recorded(lambda: run(place))

    def replay(ids: Tensor) -> None:
        place.copy_(ids)
        graph.replay()

    return replay


def check(row: Row, device: str) -> dict[str, float]:
    """Relative differences of loss and gradients from the float32 reference on the same letters and weights.

    `bf16` is what is timed; `fp32` are the same kernels without autocast.
    """
    short = Row(row.name, 384, row.tokenizer)
    poison = torch.full((1 << 29,), torch.nan, device=device)
    del poison
    model, exact = short.model(device, 128), short.model(device, 128)
    exact.load_state_dict(model.state_dict())
    ids = short.letters(device, 4 * 384)
    with reference_kernels():
        wanted_loss = loss_of(exact, ids)
        wanted_loss.backward()
    wanted, found = _gradient(exact), {}
    found["fp32_loss"] = (loss_of(model, ids) / wanted_loss - 1).abs().item()
    for name, run in (
        ("fp32", lambda: loss_of(model, ids).backward()),
        ("bf16", lambda: train_pass(model, ids)),
    ):
        model.zero_grad(set_to_none=True)
        run()
        found[f"{name}_gradient"] = ((_gradient(model) - wanted).norm() / wanted.norm()).item()
    limits = {"fp32_gradient": 1e-3, "bf16_gradient": 0.1, "fp32_loss": 1e-5}
    for key, value in found.items():
        if not value < limits[key]:
            raise SystemExit(
                f"{row.title}: {key} is {value:.1e} from the reference, more than {limits[key]:.0e}"
            )
    return found


def _gradient(model: GenomicLM) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


def measure(row: Row, device: str, ceiling: float, repeats: int) -> dict[str, Any]:
    """Speeds, memory, and operations as a fraction of the device's matrix products."""
    torch.manual_seed(0)  # of weights, by which a free router decides how many chunks there are
    left = torch.cuda.memory_allocated()  # by rows before, whose graphs do not let go of all they had
    model = row.model(device)
    batches = [row.letters(device) for _ in range(3)]
    turn = iter(range(10**9))

    def timed(one: Callable[..., Tensor]) -> tuple[float, float]:
        run = partial(one, model, room=row.room)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        if row.mode == "graph":
            run = replayed(run, batches[0])
        took = median_milliseconds(lambda: run(batches[next(turn) % 3]), repeats, 3)
        return took, (torch.cuda.max_memory_allocated() - left) / 2**30

    train, gib = timed(train_pass)
    model.zero_grad(set_to_none=True)
    forward, forward_gib = timed(forward_pass)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        stages = model(batches[0], task="lm").packed_boundaries
    compression = [stage.ragged.total / stage.mask.sum().item() for stage in stages]
    config = row.config()
    operations = {
        "train": training_flops(config, row.length, compression),
        "forward": model_cost(config, row.length, compression).flops.total,
    }
    found: dict[str, Any] = {"model": row.title, "length": row.length, "compression": compression}
    found |= {"parameters": sum(p.numel() for p in model.parameters())}
    for name, milliseconds in (("train", train), ("forward", forward)):
        per_base = operations[name] / row.length
        speed = BASES / milliseconds / 1e3
        found[f"{name}_ms"], found[f"{name}_mbases_s"] = milliseconds, speed
        found[f"{name}_of_matmul"] = speed * 1e6 * per_base / (ceiling * 1e12)
    found |= {"train_gib": gib, "forward_gib": forward_gib}
    peer = PEER.get((row.name, row.length))
    if peer and row.tokenizer == "byte" and not row.free:
        found["peer"] = peer
        found["times_peer"] = {key: found[f"{key}_mbases_s"] / peer[key] for key in ("train", "forward")}
    return found


def printed(found: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [
        "| model | window | train Mbases/s | peer | forward | peer | GiB | peer | train of matmul |",
        "|---" * 9 + "|",
    ]
    for row in found:
        peer = row.get("peer", {"train": float("nan"), "forward": float("nan"), "gib": float("nan")})
        lines.append(
            f"| {row['model']} | {row['length']} | {row['train_mbases_s']:.3f} | {peer['train']:.3f} | "
            f"{row['forward_mbases_s']:.3f} | {peer['forward']:.3f} | {row['train_gib']:.1f} | {peer['gib']:.1f} | "
            f"{row['train_of_matmul']:.0%} |"
        )
    return "\n".join(lines)


def profiled(row: Row, device: str) -> dict[str, Any]:
    """Of a training pass: milliseconds and calls of each kernel, longest first, and the waits between them."""
    from torch.profiler import ProfilerActivity, profile

    model, ids = row.model(device), row.letters(device)
    for _ in range(3):
        train_pass(model, ids)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        train_pass(model, ids)
        torch.cuda.synchronize()
    events = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    spans = sorted((event.time_range.start, event.time_range.end, event.name) for event in events)
    times: dict[str, list[float]] = {}
    for start, end, name in spans:
        times.setdefault(name, []).append((end - start) / 1000)
    kernels = [{"name": name, "ms": sum(each), "calls": len(each)} for name, each in times.items()]
    idle = [{"ms": wait / 1000, "from": before, "to": behind} for wait, before, behind in waits(spans)]
    return {
        "model": row.title,
        "length": row.length,
        "kernels_ms": sum(kernel["ms"] for kernel in kernels),
        "waits_ms": sum(wait["ms"] for wait in idle),
        "kernels": sorted(kernels, key=lambda kernel: -kernel["ms"]),
        "longest_waits": sorted(idle, key=lambda wait: -wait["ms"])[:10],
    }


def profile_lines(found: dict[str, Any], top: int) -> str:
    """A profile as text, the longest kernels alone."""
    lines = [
        f"{found['model']} {found['length']}: {found['kernels_ms']:.1f} ms of kernels a pass, and "
        f"{found['waits_ms']:.1f} ms of waits between them"
    ]
    lines += [f"{k['ms']:8.2f} ms {k['calls']:5d} x {k['name'][:100]}" for k in found["kernels"][:top]]
    lines += [f"{w['ms']:8.3f} ms from {w['from'][:70]} to {w['to'][:70]}" for w in found["longest_waits"]]
    return "\n".join(lines)


def waits(spans: list[tuple[float, float, str]]) -> list[tuple[float, str, str]]:
    """How long nothing ran, and between which kernels, of beginnings, ends and names, sorted."""
    found: list[tuple[float, str, str]] = []
    _, busy_until, before = spans[0]
    for start, end, name in spans:
        if start > busy_until:
            found.append((start - busy_until, before, name))
        if end >= busy_until:
            busy_until, before = end, name
    return found


def rows(lengths: list[int], names: list[str], more: bool) -> list[Row]:
    """The lines of the table."""
    found = [Row(name, length) for name in names for length in lengths]
    if more:
        hnets = [name for name in names if name.startswith("hnet")]
        found += [Row(name, length, "nucleotide") for name in names for length in lengths[:1]]
        found += [Row(name, length, "nucleotide", free=True) for name in hnets for length in lengths[:1]]
    return found


def main() -> None:
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 1024])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--plain", action="store_true", help="without the rows of DNA and of free boundaries")
    parser.add_argument("--modes", nargs="*", default=["room", "graph"], choices=["room", "graph"])
    parser.add_argument("--compiled", action="store_true", help="rows with compiled blocks as well")
    parser.add_argument(
        "--checkpointing",
        nargs="*",
        default=[],
        choices=CHECKPOINTING[1:],
        help="rows of these",
    )
    parser.add_argument(
        "--profile", type=int, default=0, metavar="N", help="the N slowest kernels of each model"
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: these benchmarks need one")
    limits = ceilings()
    print({key: round(value, 2) for key, value in limits.items()}, flush=True)
    checks = {name: check(Row(name, BASES), "cuda") for name in arguments.models}
    for name, found in checks.items():
        print(name, {key: f"{value:.1e}" for key, value in found.items()}, flush=True)
    wanted = rows(arguments.lengths, arguments.models, not arguments.plain)
    wanted += [
        Row(name, length, mode=mode)
        for mode in arguments.modes
        for name in arguments.models
        for length in arguments.lengths
    ]
    if arguments.compiled:
        wanted += [Row(name, arguments.lengths[0], compiled=True) for name in arguments.models]
    wanted += [
        Row(name, arguments.lengths[0], checkpointing=way)
        for way in arguments.checkpointing
        for name in arguments.models
    ]
    about = {**describe_run("cuda", arguments.commit), "ceilings": limits, "checks": checks}
    measured = []
    for row in wanted:
        measured.append(measure(row, "cuda", limits["matmul_tflop_s"], arguments.repeats))
        print(printed(measured[-1:]).splitlines()[-1], flush=True)
        if arguments.output:  # row by row: what a run that is cut short has measured is kept
            write_result(arguments.output, {**about, "rows": measured})
        gc.collect()
        torch.cuda.empty_cache()
    print(printed(measured), flush=True)
    for name in arguments.models if arguments.profile else []:
        found = profiled(Row(name, arguments.lengths[0]), "cuda")
        about.setdefault("profiles", []).append(found)
        print(profile_lines(found, arguments.profile), flush=True)
        if arguments.output:
            write_result(arguments.output, {**about, "rows": measured})


if __name__ == "__main__":
    main()
