"""What a training step keeps for its backward pass: `python -m benchmarks.kept_memory [-o FILE.json]`, on the CPU.

The models are those of `benchmarks.gpu` with three blocks of each run at most, at two small widths and in half
precision, with Triton's kernels in its interpreter. Every tensor that is made is followed, whoever holds it, so that
what is alive behind the forward pass is what is kept; it is told by the line of code that made it. What a row keeps
grows in a line with the width, which gives that of the real one; it is multiplied by the blocks of the whole model
and the rows of a step. Weights and their copies in half precision are left out.

The peak adds them, gradients and what the backward pass makes: so much as the peak that `benchmarks.gpu` has measured
without checkpointing is above what is kept, and what one block of the outer stage works out again.

Nothing is timed; milliseconds are those of bytes and operations at the speed of an H200.
`python -m benchmarks.gpu --checkpointing light projections blocks` measures memory and speed.
"""

import argparse
import contextlib
import gc
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.gpu import BASES, LAYOUTS, RESULTS, EveryThird, Row, loss_of
from benchmarks.machine import describe_run, write_result
from genotok.kernels.triton_ssd import CHUNK
from genotok.models import GenomicLM, ModelConfig
from genotok.models.blocks import Block
from genotok.models.chunkers.routing import RoutingChunker
from genotok.training.block_execution import run_blocks
from genotok.training.config import CHECKPOINTING as POLICIES

LONGEST_SPAN = 64  # chunks
HALF = torch.float16  # numpy, in which the interpreter works, knows no bfloat16; both have two bytes
WIDTHS, WIDTH = (64, 128), 512
WINDOWS, LENGTH, WINDOW = 4, 63, 8192
MIXED = (("projections", "light"), ("blocks", "light"), ("light", "projections"), ("blocks", "projections"))
COPY, PRODUCTS = 4.08e12, 0.7 * 738e12  # bytes and operations a second of an H200, of products of this size
SHOWN = 100  # bytes a row, in the printed table
OUTSIDE = "between blocks"
PACKAGE = str(Path(__file__).parents[1] / "genotok")
MECHANISM = ("less_kept.py", "block_execution.py")  # files whose functions call those that make a tensor
RUN = re.compile(r"([A-Za-z])(\d+)")


class Followed(TorchDispatchMode):
    """Follows the memory of every tensor that is made, from its beginning to its end."""

    def __init__(self, model: GenomicLM):
        super().__init__()
        self.block = OUTSIDE
        self._made: dict[int, tuple[StorageWeakRef, Kept | None, int]] = {}  # None for copies of weights
        self._weights = {p.untyped_storage()._cdata for p in model.parameters()}
        for name, part in model.named_modules():
            if isinstance(part, Block):
                part.register_forward_pre_hook(lambda *_, name=name: setattr(self, "block", name))
                part.register_forward_hook(lambda *_: setattr(self, "block", OUTSIDE))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        of_weight = args and isinstance(args[0], Tensor) and args[0].untyped_storage()._cdata in self._weights
        for part in tree_leaves(made):
            if isinstance(part, Tensor):
                self._follow(part, of_weight and function is torch.ops.aten._to_copy.default)
        return made

    def _follow(self, tensor: Tensor, is_weight: bool) -> None:
        storage = tensor.untyped_storage()
        known = self._made.get(storage._cdata)
        if storage._cdata in self._weights or (known is not None and not known[0].expired()):
            return
        kept = None if is_weight else Kept(self.block, _line(), str(tensor.dtype).removeprefix("torch."))
        self._made[storage._cdata] = StorageWeakRef(storage), kept, storage.nbytes()

    def alive(self) -> Counter:
        """The bytes that there are now, by `Kept`."""
        found = Counter()
        for memory, kept, size in self._made.values():
            found[kept] += 0 if memory.expired() else size
        del found[None]
        return found


def _line() -> str:
    """The innermost function of the package that runs."""
    frame = sys._getframe(1)
    while frame is not None:
        code, file = frame.f_code, Path(frame.f_code.co_filename)
        if code.co_filename.startswith(PACKAGE) and file.name not in MECHANISM:
            return f"{file.stem}.{code.co_qualname.replace('.<locals>.<genexpr>', '')}"
        frame = frame.f_back
    return "elsewhere"


@dataclass(frozen=True)
class Kept:
    """One line of a table: the block that made a tensor (or `OUTSIDE`), the function, and the tensor's type."""

    block: str
    line: str
    dtype: str


class Table(Counter):
    """Bytes over the rows of the outer stage, of all blocks of a model, by kind of block and `Kept`."""


@contextlib.contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Tensors on the CPU take Triton's kernels; attention, which is not Triton's, stays torch's."""
    with contextlib.ExitStack() as patches:
        for name, module in list(sys.modules.items()):
            if name.startswith("genotok.kernels.") and hasattr(module, "uses_triton"):
                patches.enter_context(mock.patch.object(module, "uses_triton", _no_float64))
        patches.enter_context(mock.patch("genotok.kernels.attention._flash_takes", return_value=False))
        yield


def _no_float64(*tensors: Tensor) -> bool:
    return all(tensor.dtype != torch.float64 for tensor in tensors)


def shortened(layout: list) -> list:
    """The same layout with at most three blocks of each run."""
    return [
        shortened(part)
        if isinstance(part, list)
        else RUN.sub(lambda run: run[1] + str(min(int(run[2]), 3)), part)
        for part in layout
    ]


def make_model(name: str, layout: list, width: int, policy: str, **settings: Any) -> GenomicLM:
    """With the MLPs of one of `LAYOUTS`, another layout and width, and chunks at every third row."""
    intermediate = LAYOUTS[name][1]
    stages, heads = len(intermediate), width // 64
    config = ModelConfig(
        layout=layout,
        d_model=[width] * stages,
        d_intermediate=[wide * width // WIDTH for wide in intermediate],
        attention={"heads": [heads] * stages, "rotary_dim": [32] * stages, "window": [1023, -1][:stages]},
        tokenizer="nucleotide",
        **settings,
    )
    model = GenomicLM(config)
    for chunker in (part for part in model.modules() if isinstance(part, RoutingChunker)):
        chunker.__class__ = EveryThird
    run_blocks(model, policy, False)
    return model


def one_pass(model: GenomicLM, windows: int, length: int) -> tuple[dict[Kept, float], Tensor]:
    """The bytes that a forward pass of random letters keeps by line, over the rows of the outer stage; its loss."""
    ids = torch.randint(4, 8, (windows, length))
    with as_on_a_gpu(), Followed(model) as followed:
        with torch.autocast("cpu", HALF):
            loss = loss_of(model, ids)
        gc.collect()  # the interpreter holds what it has read in circles
        found = followed.alive()
    return {kept: size / ids.numel() for kept, size in found.items() if size}, loss


def at_full_width(name: str, policy: str) -> dict[Kept, float]:
    """The bytes of `one_pass` at the real width, of a shortened model."""
    layout, found = shortened(LAYOUTS[name][0]), {}
    low, high = (one_pass(make_model(name, layout, width, policy), WINDOWS, LENGTH)[0] for width in WIDTHS)
    for kept in low.keys() | high.keys():
        a, b = low.get(kept, 0.0), high.get(kept, 0.0)
        found[kept] = a + (b - a) * (WIDTH - WIDTHS[0]) / (WIDTHS[1] - WIDTHS[0])
    return found


def of_whole_model(layout: list, found: dict[Kept, float]) -> Table:
    """Of all blocks of the layout.

    The middle one of three blocks of a run stands for all of the run but the first and the last.
    """
    whole = Table()
    for block, (kind, times) in {**_blocks(layout, "backbone"), OUTSIDE: (OUTSIDE, 1)}.items():
        for kept, size in found.items():
            if kept.block == block:
                whole[kind, Kept("", kept.line, kept.dtype)] += times * size
    return whole


def _blocks(layout: list, stage: str) -> dict[str, tuple[str, int]]:
    """Of the blocks of the shortened layout by name: the kind, and how many of the whole one each stands for."""
    found = {}
    for part, stack in zip(layout, ("encoder", "inner", "decoder"), strict=False):
        if isinstance(part, list):
            found |= _blocks(part, f"{stage}.{stack}")
            continue
        names = (f"{stage}.{stack}.blocks.{k}" for k in range(99))
        for letter, count in RUN.findall(part):
            kind, times = f"{'inner' if stage.endswith('inner') else 'outer'} {letter}", int(count)
            for each in [1] * times if times < 3 else [1, times - 2, 1]:
                found[next(names)] = kind, each
    return found


def with_span_states(name: str, table: Table) -> Table:
    """Windows as short as those here are one span each; in real ones, states that enter spans are kept as well."""
    kinds, settings = _outer_blocks(name), Row(name, WINDOW).config().mamba2
    spans = BASES // (CHUNK * LONGEST_SPAN) + BASES // WINDOW
    found = table.copy()
    for kind in [kind for kind in kinds if kind.lower() == "outer m"]:
        size = 4 * WIDTH * settings.expand * settings.d_state * spans / BASES
        found[kind, Kept("", "triton_ssd._spans_leave", "float32")] += kinds[kind] * size
    return found


def _outer_blocks(name: str) -> Counter:
    """How many blocks of each kind the outermost stage has."""
    runs = [part for part in LAYOUTS[name][0] if isinstance(part, str)]
    return (
        Counter({f"outer {letter}": int(count) for letter, count in RUN.findall("".join(runs))}) + Counter()
    )


def total(table: Table, prefix: str = "") -> float:
    """GiB that a step keeps, of the kinds of blocks that begin so."""
    return BASES * sum(size for (kind, _), size in table.items() if kind.startswith(prefix)) / 2**30


def summary(name: str, tables: dict[str, Table]) -> list[dict[str, Any]]:
    """GiB that a step keeps and has at its peak, by policy, and the milliseconds that it should take more."""
    results = json.loads((RESULTS / "gpu.json").read_text())["rows"]
    measured = next(row["train_gib"] for row in results if (row["model"], row["length"]) == (name, WINDOW))
    beside = measured - total(tables["none"])  # weights, gradients, and what the backward pass makes
    counts, found = _outer_blocks(name), []
    for outside, inside in [*((policy, policy) for policy in POLICIES), *MIXED]:
        kept = (
            total(tables[outside], "outer") + total(tables[inside], "inner") + total(tables[inside], OUTSIDE)
        )
        again = max(
            (total(tables["none"], kind) - total(tables[outside], kind)) / counts[kind] for kind in counts
        )
        line = {"model": name, "outside": outside, "inside": inside, "kept_gib": kept}
        line["peak_gib"] = kept + beside + again
        if "blocks" not in (outside, inside):
            line["milliseconds"] = sum(
                _milliseconds(tables, *part) for part in ((outside, "outer"), (inside, "inner"))
            )
        found.append(line)
    return found


def _milliseconds(tables: dict[str, Table], policy: str, prefix: str) -> float:
    """To work again what only moves memory, each byte written and at most two read for it, and what is a product."""
    found = 0.0
    if policy != "none":
        found += 3 * (total(tables["none"], prefix) - total(tables["light"], prefix)) / COPY
    if policy == "projections":
        found += WIDTH * (total(tables["light"], prefix) - total(tables["projections"], prefix)) / PRODUCTS
    return found * 2**30 * 1e3


def printed(lines: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Both tables as Markdown."""
    made: dict[tuple, dict[str, float]] = {}
    for line in lines:
        made.setdefault((line["block"], line["line"], line["dtype"]), {})[line["policy"]] = line["bytes"]
    text = [f"| blocks | made by | type | {' | '.join(POLICIES)} |", "|---" * (3 + len(POLICIES)) + "|"]
    for key, sizes in made.items():
        if max(sizes.values()) > SHOWN:
            text.append(
                f"| {' | '.join(key)} | {' | '.join(f'{sizes.get(policy, 0):,.0f}' for policy in POLICIES)} |"
            )
    text += ["", "| outside | inside | kept GiB | peak GiB | ms more |", "|---" * 5 + "|"]
    for line in found:
        more = f"{line['milliseconds']:.1f}" if "milliseconds" in line else ""
        both = f"{line['outside']} | {line['inside']}"
        text.append(f"| {both} | {line['kept_gib']:.1f} | {line['peak_gib']:.1f} | {more} |")
    return "\n".join(text)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hnet M15", choices=list(LAYOUTS))
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") != "1":  # which Triton reads when it is imported
        command = [sys.executable, "-m", "benchmarks.kept_memory", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "TRITON_INTERPRET": "1"})
    torch.manual_seed(0)
    tables = {}
    for policy in POLICIES:
        tables[policy] = of_whole_model(LAYOUTS[arguments.model][0], at_full_width(arguments.model, policy))
        if policy != "blocks":
            tables[policy] = with_span_states(arguments.model, tables[policy])
    lines = [
        {"policy": policy, "block": kind, "line": kept.line, "dtype": kept.dtype, "bytes": size}
        for policy, table in tables.items()
        for (kind, kept), size in table.items()
    ]
    found = summary(arguments.model, tables)
    print(printed(lines, found))
    if arguments.output:
        write_result(
            arguments.output, {**describe_run("cpu", arguments.commit), "lines": lines, "summary": found}
        )


if __name__ == "__main__":
    main()
