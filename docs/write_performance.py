"""Write docs/performance.md: the text of docs/performance.md.in with tables of the results in benchmarks/results.

python docs/write_performance.py

A line `{{ TABLE RESULT... }}` of the text stands for a function below and the names of results, without `.json`;
those that are not there are left out.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from genotok.training.config import CHECKPOINTING

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
TEXT = REPOSITORY / "docs" / "performance.md.in"
PAGE = TEXT.with_suffix("")
PLACE = re.compile(r"^\{\{ (.+) \}\}$", re.MULTILINE)
HELPERS = ("machine", "cpu_sequences")  # modules of the folder that measure nothing themselves
NO_WAITS = ("selected", "not_selected")  # an instruction is issued, of this warp or of another one
# Kinds of kernels by what their names have, the first that fits; the norms' and SwiGLU's have plain names.
KERNELS = {
    "attention": r"flash|sdpa|_attend",
    "products": r"nvjet|gemm|splitKreduce",
    "state space": r"^(inputs_backward|projections_backward|steps_backward|states|scan|cumulate|pass)_kernel",
    "convolution": r"^_conv",
    "gated norm": r"^_gated_norm",
    "norms, SwiGLU": r"^_(forward|backward)$",
}
FURTHER_RUNS = ("gpu_second_run", "gpu_third_run")
SPEEDS = ("train_mbases_s", "forward_mbases_s")
Rows = Callable[[dict[str, Any]], Iterable[tuple]]


@dataclass
class Table:
    """What of a result stands on the page.

    Attributes:
        columns: their headings.
        rows: of one result.
    """

    columns: tuple[str, ...]
    rows: Rows


TABLES: dict[str, Table] = {}


def table(*columns: str) -> Callable[[Rows], Rows]:
    """Make a function of a result, which gives rows, a table of these columns."""

    def add(rows: Rows) -> Rows:
        TABLES[rows.__name__] = Table(columns, rows)
        return rows

    return add


@dataclass
class Goal:
    """A number that was wanted.

    Attributes:
        title: of the row.
        model: a model of `benchmarks.gpu`, or an operation of `benchmarks.kernels_outer`.
        key: of its result.
        wanted: the least speed, or the most time or memory.
        limit: why it is missed, where it is.
    """

    title: str
    model: str
    key: str
    wanted: float
    limit: str = ""


MEMORY_BOUND = "what moves numbers: scans, norms, gates and convolutions of twelve layers of Mamba-2 a base"
ATTENTION = (
    "attention, of which torch's kernels reach less than half of the products, and the outer stage as above"
)
GOALS = (
    Goal("train `hnet M15`, Mbases/s", "hnet M15", "train_mbases_s", 1.35, MEMORY_BOUND),
    Goal(
        "its memory, GiB",
        "hnet M15",
        "train_gib",
        16,
        "all that is read again is kept; with `projections` it is met, for an eighth of the speed",
    ),
    Goal(
        "train `hnet T15`, Mbases/s",
        "hnet T15",
        "train_mbases_s",
        1.70,
        "products and attention [alone](#where-the-time-goes) take four fifths of the time that this leaves",
    ),
    Goal("forward `hnet M15`, Mbases/s", "hnet M15", "forward_mbases_s", 4.3, MEMORY_BOUND),
    Goal("forward `hnet T15`, Mbases/s", "hnet T15", "forward_mbases_s", 6.2, ATTENTION),
    Goal("train `isotropic T9`, Mbases/s", "isotropic T9", "train_mbases_s", 0.655),
    Goal("train `isotropic M10`, Mbases/s", "isotropic M10", "train_mbases_s", 0.819),
    Goal("upsampling, forward, ms", "ema_upsample bf16", "forward_ms", 0.07),
    Goal("upsampling with backward, ms", "ema_upsample bf16", "forward_backward_ms", 0.25),
)
EQUAL_WORK = (
    ("hnet M15", "isotropic M10", 8192),
    ("hnet M15", "isotropic T9", 8192),
    ("hnet M15", "isotropic M10", 1024),
    ("hnet T15", "isotropic T9", 1024),
)


@table("model", "window", "train", "peer", "forward", "peer", "train GiB", "peer", "of products")
def models(result: dict[str, Any]) -> Iterable[tuple]:
    """Whole models beside the official code."""
    for row in result["rows"]:
        if _less_kept(row):
            continue
        peer = row.get("peer", {})
        yield (
            row["model"],
            f"{row['length']:,}",
            _number(row["train_mbases_s"]),
            _number(peer.get("train")),
            _number(row["forward_mbases_s"]),
            _number(peer.get("forward")),
            _number(row["train_gib"]),
            _number(peer.get("gib")),
            f"{row['train_of_matmul']:.0%}",
        )


@table("what", "wanted", "reached", "graph", "what limits it")
def goals(result: dict[str, Any]) -> Iterable[tuple]:
    """What was wanted at windows of 8,192 and of the upsampler, and what limits it where it is missed."""
    measured = json.loads((RESULTS / "kernels_outer.json").read_text())["lines"]
    measured |= {row["model"]: row for row in result["rows"] if row["length"] == 8192}
    for goal in GOALS:
        reached = measured[goal.model][goal.key]
        more_is_better = goal.key.endswith("mbases_s")
        met = reached >= goal.wanted if more_is_better else reached <= goal.wanted
        yield (
            goal.title,
            _number(goal.wanted),
            _number(reached),
            _number(measured.get(f"{goal.model} graph", {}).get(goal.key)),
            "" if met else goal.limit,
        )


@table("H-Net", "isotropic", "window", "MFLOP", "MFLOP", "Mbases/s", "Mbases/s", "times")
def equal_work(result: dict[str, Any]) -> Iterable[tuple]:
    """H-Nets beside the isotropic models of about as many operations a base."""
    rows = {(row["model"], row["length"]): row for row in result["rows"]}
    ceiling = result["ceilings"]["matmul_tflop_s"]
    for name, other, length in EQUAL_WORK:
        pair = rows[name, length], rows[other, length]
        operations = [_number(row["train_of_matmul"] * ceiling / row["train_mbases_s"]) for row in pair]
        speeds = [row["train_mbases_s"] for row in pair]
        yield name, other, f"{length:,}", *operations, *map(_number, speeds), f"{speeds[0] / speeds[1]:.2f}"


@table("model", "window", "train, least", "most", "forward, least", "most")
def runs(result: dict[str, Any]) -> Iterable[tuple]:
    """How far runs of `benchmarks.gpu` differ; those beside the one that is given are `FURTHER_RUNS`."""
    further = [json.loads((RESULTS / f"{name}.json").read_text())["rows"] for name in FURTHER_RUNS]
    of_rows: dict[tuple, list] = {}
    for row in [*result["rows"], *chain(*further)]:
        of_rows.setdefault((row["model"], row["length"]), []).append(row)
    for (model, length), rows in of_rows.items():
        if length == 8192 and "dna" not in model and len(rows) > len(further):
            ends = [end(row[key] for row in rows) for key in SPEEDS for end in (min, max)]
            yield model, f"{length:,}", *map(_number, ends)


@table("model", *KERNELS, "others", "all", "waits between them")
def kernel_times(result: dict[str, Any]) -> Iterable[tuple]:
    """Milliseconds of a training pass by kind of kernel."""
    for found in result.get("profiles", ()):
        kinds = dict.fromkeys([*KERNELS, "others"], 0.0)
        for kernel in found["kernels"]:
            kind = next(
                (kind for kind, names in KERNELS.items() if re.search(names, kernel["name"])), "others"
            )
            kinds[kind] += kernel["ms"]
        yield (
            found["model"],
            *map(_number, kinds.values()),
            _number(found["kernels_ms"]),
            _number(found["waits_ms"]),
        )


@table("model", "value", "Mbases/s", "of the speed", "ms more", "foreseen", "train GiB", "foreseen")
def checkpointing(result: dict[str, Any]) -> Iterable[tuple]:
    """Speed and memory by `activation_checkpointing`, beside the same model without it and what was worked out."""
    plain = {(row["model"], row["length"]): row for row in result["rows"] if not _less_kept(row)}
    measured = [row for row in result["rows"] if _less_kept(row)]
    of_model: dict[tuple, list] = {}
    for row in measured:
        of_model.setdefault((row["model"].rsplit(" ", 1)[0], row["length"]), []).append(row)
    for (name, length), rows in of_model.items():
        whole = plain[name, length]
        for row in [whole, *rows]:
            policy = _less_kept(row) or "none"
            foreseen = {} if row is whole else _foreseen(name, policy)
            yield (
                name,
                policy,
                _number(row["train_mbases_s"]),
                f"{row['train_mbases_s'] / whole['train_mbases_s']:.2f}",
                _number(row["train_ms"] - whole["train_ms"]),
                _number(foreseen.get("milliseconds")),
                _number(row["train_gib"]),
                _number(foreseen.get("peak_gib")),
            )


def _less_kept(row: dict[str, Any]) -> str | None:
    """The policy of a row of `benchmarks.gpu`, where it has one; its name ends with it."""
    return next((policy for policy in CHECKPOINTING[1:] if row["model"].endswith(f" {policy}")), None)


def _foreseen(model: str, policy: str) -> dict[str, float]:
    """What `benchmarks.kept_memory` has worked out for a model all of whose blocks have one policy."""
    path = RESULTS / "kept_memory.json"
    lines = json.loads(path.read_text())["summary"] if path.is_file() else []
    wanted = (model, policy, policy)
    return next((x for x in lines if (x["model"], x["outside"], x["inside"]) == wanted), {})


@table("windows", "GPUs", "bases/s", "ms a step", "times one GPU", "of the best", "peak GiB")
def ranks(result: dict[str, Any]) -> Iterable[tuple]:
    """Speed by number of GPUs."""
    batch = f"{result['batch_size']} {'a GPU' if result['weak'] else 'in all'}"
    for ranks, line in result["ranks"].items():
        yield (
            batch,
            ranks,
            f"{line['bases_per_second']:,.0f}",
            f"{line['seconds_a_step'] * 1e3:.0f}",
            f"{line['ratio']:.2f}",
            f"{line['ratio'] / int(ranks):.0%}",
            _number(line["peak_gib_first_rank"]),
        )


@table("model", "bases a step", "way", "Mbases/s", "ms a step", "times launched", "GiB", "difference")
def graph_steps(result: dict[str, Any]) -> Iterable[tuple]:
    """Whole steps as launched, the same again, and replayed."""
    for line in result["models"]:
        launched = line["launched"]["mbases_s"]
        far = {"launched_again": line["launched_twice"], "graph": line["graph_and_launched"]}
        for way in ("launched", "launched_again", "graph"):
            found = line[way]
            yield (
                line["model"],
                f"{result['batch_size'] * result['window']:,}",
                way.replace("_", " "),
                _number(found["mbases_s"]),
                _number(found["milliseconds_a_step"]),
                f"{found['mbases_s'] / launched:.2f}",
                _number(found.get("reserved_gib")),
                f"{far[way]['loss']:.1e}" if way in far else "",
            )


@table("operation", "forward", "of the bound", "with backward", "of the bound", "reference with backward")
def outer_kernels(result: dict[str, Any]) -> Iterable[tuple]:
    """The outer stage's operations."""
    for name, line in result["lines"].items():
        yield (
            name,
            _number(line["forward_ms"]),
            f"{line['forward_of_ceiling']:.0%}",
            _number(line["forward_backward_ms"]),
            f"{line['forward_backward_of_ceiling']:.0%}",
            _number(line["reference_forward_backward_ms"]),
        )


@table("operation", "milliseconds", "of the bound", "reference")
def state_space_kernels(result: dict[str, Any]) -> Iterable[tuple]:
    """The operations of Mamba-2."""
    for name, line in result["lines"].items():
        if "of_copy_speed" in line:
            bound = max(line["of_copy_speed"], line["of_matmul_speed"])
            yield (
                name,
                _number(line["milliseconds"]),
                f"{bound:.0%}",
                _number(line.get("reference_milliseconds")),
            )


@table("operation", "way", "error", "forward", "with backward", "of copy speed", "of products", "reference")
def hyena_kernels(result: dict[str, Any]) -> Iterable[tuple]:
    """Hyena's convolutions, the torch reference of each beside both ways; shares and it are with backward."""
    lines = result["lines"]
    for name, line in lines.items():
        shape, _, way = name.partition(": ")
        if "forward_of_copy" in line:
            reference = lines.get(f"{shape}: reference", {})
            yield (
                shape,
                way,
                f"{line['relative_error']:.1e}",
                _number(line["forward_ms"]),
                _number(line["forward_backward_ms"]),
                f"{line['forward_backward_of_copy']:.0%}",
                _share(line.get("forward_backward_of_matmul")),
                _number(reference.get("forward_backward_ms")),
            )


@table("mixer", "forward", "with backward", "reference forward", "with backward")
def hyena_mixers(result: dict[str, Any]) -> Iterable[tuple]:
    """The whole mixer, with the kernels and without them."""
    for name, line in result["lines"].items():
        shape, _, way = name.removeprefix("mixer, ").partition(": ")
        if way == "kernels":
            both = line, result["lines"][name.replace(": kernels", ": reference")]
            yield shape, *(_number(x[key]) for x in both for key in ("forward_ms", "forward_backward_ms"))


@table("memory", "way", "forward GiB", "with backward GiB")
def hyena_memory(result: dict[str, Any]) -> Iterable[tuple]:
    """What one long sequence takes."""
    for name, line in result["lines"].items():
        shape, _, way = name.removeprefix("memory, ").partition(": ")
        if "forward_gib" in line:
            yield shape, way, _number(line["forward_gib"]), _number(line["forward_backward_gib"])


@table("kernel", "ms", "memory bandwidth", "resident warps", "instructions", "registers", "waits")
def counters(result: dict[str, Any]) -> Iterable[tuple]:
    """What the kernels of a mixer reach and wait for."""
    for line in result["launches"]:
        shares = (
            f"{line[name]:.0%}"
            for name in ("of_memory_bandwidth", "of_resident_warps", "of_issued_instructions")
        )
        cycles_waited = line["cycles_waited"].items()
        waits = [(name, cycles) for name, cycles in cycles_waited if name not in NO_WAITS][:2]
        said = ", ".join(f"{name} {cycles:.1f}" for name, cycles in waits)
        yield line["kernel"], _number(line["milliseconds"]), *shares, f"{line['registers']:.0f}", said


@table("model", "task", "bases", "ms", "bases/s", "peak GiB")
def lengths(result: dict[str, Any]) -> Iterable[tuple]:
    """A sweep of lengths."""
    for row in result["rows"]:
        kind = row["task"] + (", blocks computed anew" if _checkpoints(result, row) else "")
        found = [_number(row.get(key)) for key in ("ms", "bases_per_second", "peak_gib")]
        yield (
            row["model"],
            kind,
            f"{row['length']:,}",
            *(found if "failed" not in row else [row["failed"], "", ""]),
        )


@table("sweep", "bytes a base", "GiB beside them", "worst error of the line", "exponent", "linear")
def growth(result: dict[str, Any]) -> Iterable[tuple]:
    """How memory grows in a sweep."""
    for name, growth in result["memory_growth"].items():
        if growth:
            yield (
                name + (", blocks computed anew" if _checkpoints(result, {"task": name.split()[-1]}) else ""),
                _number(growth["bytes_a_base"]),
                _number(growth["base_gib"]),
                f"{growth['worst_relative_error']:.1%}",
                f"{growth['exponent']:.3f}",
                "yes" if growth["linear"] else "no",
            )


def _checkpoints(result: dict[str, Any], row: dict[str, Any]) -> bool:
    return row["task"] == "train" and result.get("checkpointing") == "blocks"


@table("batch", "way", "letters", "letters/s", "ms a step", "equal sequences")
def generation(result: dict[str, Any]) -> Iterable[tuple]:
    """Letters a second by way."""
    for row in result["rows"]:
        equal = f"{row['equal_sequences']} of {row['batch']}"
        speeds = f"{row['letters_a_second']:,.0f}", _number(row["ms_a_step"])
        yield row["batch"], row["way"], f"{row['letters']:,}", *speeds, equal


@table("precision", "curves", "first 10 steps", "largest", "mean", "tolerance")
def curves(result: dict[str, Any]) -> Iterable[tuple]:
    """Differences of loss curves."""
    for line in result["precisions"]:
        for name in ("fast_and_reference", "reference_and_rounded_reference"):
            gaps = (f"{line[name][key]:.1e}" for key in ("largest_of_first_10", "largest", "mean"))
            limits = line["tolerance"]
            tolerance = f"{limits['largest']} at most, {limits['mean']} in the mean" if name[0] == "f" else ""
            yield line["precision"], name.replace("_", " "), *gaps, tolerance


@table("probabilities", "of", "first", "last", "worst")
def drift(result: dict[str, Any]) -> Iterable[tuple]:
    """Errors of the moving average."""
    for line in result["lines"]:
        for name in ("average", "to_chunks", "to_probability"):
            errors = (f"{line[name][key]:.1e}" for key in ("first", "last", "worst"))
            yield line["kind"], name.replace("_", " "), *errors


@table("model", "device", "precision", "window", "way", "variants/s")
def scoring(result: dict[str, Any]) -> Iterable[tuple]:
    """Variants a second."""
    for row in result["rows"]:
        way = "prefixes read once" if row["share_prefixes"] else "whole windows"
        yield (
            result["model"],
            result["device"],
            row["precision"],
            row["window"],
            way,
            f"{row['per_second']:,.0f}",
        )


@table("outer stage", "inside", "kept GiB", "peak GiB", "ms more")
def kept_memory(result: dict[str, Any]) -> Iterable[tuple]:
    """What is kept and what the peak should be, by policy."""
    for line in result["summary"]:
        found = (_number(line.get(key)) for key in ("kept_gib", "peak_gib", "milliseconds"))
        yield line["outside"], line["inside"], *found


@table("seconds", "Mbases", "bits a base")
def quality(result: dict[str, Any]) -> Iterable[tuple]:
    """Bits per base on the way and at the end."""
    for line in result["curve"][:-1]:
        yield f"{line['seconds']:.0f}", f"{line['bases'] / 1e6:,.0f}", f"{line['bits_per_base']:.4f}"
    end = f"{result['training_seconds']:.0f} (end, whole chromosome)"
    yield end, f"{result['bases'] / 1e6:,.0f}", f"{result['bits_per_base']:.4f}"


@table("precision", "bases/s", "times bf16", "bits a base", "less bf16", "peak GiB")
def precisions(result: dict[str, Any]) -> Iterable[tuple]:
    """Speed, loss and memory of each precision."""
    for line in result["table"]:
        yield (
            line["precision"],
            f"{line['bases_per_second']:,}",
            f"{line['times_bf16']:.2f}",
            f"{line['valid_bits_per_base']:.4f}",
            f"{line['valid_bits_per_base_less_bf16']:+.4f}",
            _number(line.get("peak_memory_gib")),
        )


def page() -> str:
    """The text of the page."""
    return PLACE.sub(lambda place: _filled(*place[1].split()), TEXT.read_text())


def places() -> list[list[str]]:
    """The tables of the text, each with its results."""
    return [place.split() for place in PLACE.findall(TEXT.read_text()) if place != "modules"]


def _filled(name: str, *results: str) -> str:
    if name == "modules":
        return _modules()
    found = [_tabulated(TABLES[name], result) for result in results if (RESULTS / f"{result}.json").is_file()]
    return "\n\n".join(filter(None, found)) or "No result of it is kept yet."


def _tabulated(wanted: Table, name: str) -> str:
    """A table under a line that says what was measured on what; nothing where there are no rows."""
    result = json.loads((RESULTS / f"{name}.json").read_text())
    rows = list(wanted.rows(result))
    about = f"{result['device']}, `benchmarks/results/{name}.json`, commit {result['commit'][:7]}"
    limits = result.get("ceilings")
    if limits:
        speeds = (
            f"{limits['copy_tb_s']:.2f} TB/s copied, {limits['matmul_tflop_s']:.0f} TFLOP/s of bf16 products"
        )
        about += f"; the device itself: {speeds}"
    return f"{about}\n\n{_table(wanted.columns, rows)}" if rows else ""


def _modules() -> str:
    """Every benchmark, with the first sentence of what it says of itself."""
    rows = []
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0]
        if path.stem not in HELPERS:
            about = " ".join(text.split()).split(f": `python -m benchmarks.{path.stem}")[0].rstrip(".")
            rows.append((f"`benchmarks.{path.stem}`", about))
    return _table(("module", "what it measures"), rows)


def _table(columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    lines = (columns, ["---"] * len(tuple(columns)), *rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    """Three digits, with commas in large ones; empty for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(page())
