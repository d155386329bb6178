"""Write docs/performance.md from the results in benchmarks/results.

python docs/write_performance.py
"""

import ast
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genotok.training.config import CHECKPOINTING

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGE = REPOSITORY / "docs" / "performance.md"
HELPERS = ("machine", "cpu_sequences")  # modules of the folder that measure nothing themselves
HEAD = """# Performance
This page is written by `python docs/write_performance.py` from the JSON files in `benchmarks/results`; do not
edit it. The numbers of a table are those of its file, which holds the command, the device and the versions, and
the commit that stands beside it: code has become faster since some of them.

## How to reproduce
A benchmark is a module: `python -m benchmarks.NAME -o FILE.json`, from the root of a checkout with genotok
installed; on a machine without git give `--commit`. Those of a GPU need CUDA, and print what the device itself
can do in the same run: the speed of a large copy and of a large bf16 matrix product. Most hold results against
float64 or against the torch reference first, on fresh random numbers, and then time with device events: medians,
the first calls left out. `--quick`, where a benchmark has it, is a tiny model on the
CPU, which shows that it works and no more.

What bounds a part: an operation that only moves numbers cannot be faster than its bytes at copy speed, and a
matrix product not faster than its operations at the speed of the device's products. The tables give the
fraction of that.
"""
NO_WAITS = ("selected", "not_selected")  # an instruction is issued, of this warp or of another one
Table = Callable[[dict[str, Any]], Iterable[tuple]]


@dataclass
class Section:
    """One benchmark on the page.

    Attributes:
        title: the heading.
        about: what it does.
        files: names of results without `.json`; those that are not there are left out.
        columns: of the table.
        rows: of one result.
    """

    title: str
    about: str
    files: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Table


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
        "all that is read again is kept; with `projections` it is met, for a fifth of the speed",
    ),
    Goal("train `hnet T15`, Mbases/s", "hnet T15", "train_mbases_s", 1.70, ATTENTION),
    Goal("forward `hnet M15`, Mbases/s", "hnet M15", "forward_mbases_s", 4.3, MEMORY_BOUND),
    Goal("forward `hnet T15`, Mbases/s", "hnet T15", "forward_mbases_s", 6.2, ATTENTION),
    Goal("train `isotropic T9`, Mbases/s", "isotropic T9", "train_mbases_s", 0.655),
    Goal("train `isotropic M10`, Mbases/s", "isotropic M10", "train_mbases_s", 0.819),
    Goal(
        "upsampling, forward, ms",
        "ema_upsample bf16",
        "forward_ms",
        0.07,
        "four launches in turn: decays, what each block of rows leaves, what each takes over, and the rows",
    ),
    Goal("upsampling with backward, ms", "ema_upsample bf16", "forward_backward_ms", 0.25),
)
EQUAL_WORK = (
    ("hnet M15", "isotropic M10", 8192),
    ("hnet M15", "isotropic T9", 8192),
    ("hnet M15", "isotropic M10", 1024),
    ("hnet T15", "isotropic T9", 1024),
)


def of_models(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_goals(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_equal_work(result: dict[str, Any]) -> Iterable[tuple]:
    """H-Nets beside the isotropic models of about as many operations a base."""
    rows = {(row["model"], row["length"]): row for row in result["rows"]}
    ceiling = result["ceilings"]["matmul_tflop_s"]
    for name, other, length in EQUAL_WORK:
        pair = rows[name, length], rows[other, length]
        operations = [_number(row["train_of_matmul"] * ceiling / row["train_mbases_s"]) for row in pair]
        speeds = [row["train_mbases_s"] for row in pair]
        yield name, other, f"{length:,}", *operations, *map(_number, speeds), f"{speeds[0] / speeds[1]:.2f}"


def of_checkpointing(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_ranks(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_graph_steps(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_outer_kernels(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_state_space_kernels(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_counters(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_lengths(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_growth(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_generation(result: dict[str, Any]) -> Iterable[tuple]:
    """Letters a second by way."""
    for row in result["rows"]:
        equal = f"{row['equal_sequences']} of {row['batch']}"
        speeds = f"{row['letters_a_second']:,.0f}", _number(row["ms_a_step"])
        yield row["batch"], row["way"], f"{row['letters']:,}", *speeds, equal


def of_curves(result: dict[str, Any]) -> Iterable[tuple]:
    """Differences of loss curves."""
    for line in result["precisions"]:
        for name in ("fast_and_reference", "reference_and_rounded_reference"):
            gaps = (f"{line[name][key]:.1e}" for key in ("largest_of_first_10", "largest", "mean"))
            limits = line["tolerance"]
            tolerance = f"{limits['largest']} at most, {limits['mean']} in the mean" if name[0] == "f" else ""
            yield line["precision"], name.replace("_", " "), *gaps, tolerance


def of_drift(result: dict[str, Any]) -> Iterable[tuple]:
    """Errors of the moving average."""
    for line in result["lines"]:
        for name in ("average", "to_chunks", "to_probability"):
            errors = (f"{line[name][key]:.1e}" for key in ("first", "last", "worst"))
            yield line["kind"], name.replace("_", " "), *errors


def of_scoring(result: dict[str, Any]) -> Iterable[tuple]:
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


def of_kept_memory(result: dict[str, Any]) -> Iterable[tuple]:
    """What is kept and what the peak should be, by policy."""
    for line in result["summary"]:
        found = (_number(line.get(key)) for key in ("kept_gib", "peak_gib", "milliseconds"))
        yield line["outside"], line["inside"], *found


def of_quality(result: dict[str, Any]) -> Iterable[tuple]:
    """Bits per base on the way and at the end."""
    for line in result["curve"][:-1]:
        yield f"{line['seconds']:.0f}", f"{line['bases'] / 1e6:,.0f}", f"{line['bits_per_base']:.4f}"
    end = f"{result['training_seconds']:.0f} (end, whole chromosome)"
    yield end, f"{result['bases'] / 1e6:,.0f}", f"{result['bits_per_base']:.4f}"


def of_precisions(result: dict[str, Any]) -> Iterable[tuple]:
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


SECTIONS = (
    Section(
        "Whole models",
        "`python -m benchmarks.gpu`: training (forward, loss, backward) and forward passes of 131,072 "
        "bases in bf16, a chunk at every third base, beside what the official H-Net code with its CUDA "
        "kernels reaches on the same device with the same work. Mbases a second; the last column is the "
        "share of the device's matrix products. `dna` has genotok's vocabulary of 16 in place of 256, "
        "`free` lets the router decide, and `graph` replays the pass as a CUDA graph, with a fixed room "
        "for chunks.\n\nWhat limits them: the outer stage and Mamba-2 move numbers rather than multiply; "
        "what their kernels reach stands in the tables below. The backward pass of a state-space scan "
        "writes two states of 128 x 64 for each head and 64 rows and reads them three times, more than "
        "half of what it moves; norms, gates and the short convolution are one pass over memory in each "
        "direction. Attention over windows of 8,192 letters, each of which sees 1,023 before it, reaches "
        "less than a quarter of the products, which costs `T9` a quarter of the speed that it has with "
        "windows of 1,024. Where `graph` is faster, the host was behind the device: it waits for the "
        "number of chunks, and launches each kernel. Where it is slower, as for `T15`, sequences in a "
        "fixed room have lengths of their own, and full attention takes another kernel than for those of "
        "one length. Memory is what the backward pass keeps, more than in the official code; "
        "`activation_checkpointing` trades it for time. `--profile 30` prints the kernels of a pass.",
        ("gpu",),
        ("model", "window", "train", "peer", "forward", "peer", "train GiB", "peer", "of products"),
        of_models,
    ),
    Section(
        "Wanted and reached",
        "What these kernels were to reach on one H200, from the tables of whole models and of the outer "
        "stage, windows of 8,192; beside the plain passes those that are replayed as a graph. Missed "
        "numbers have what limits them.",
        ("gpu",),
        ("what", "wanted", "reached", "graph", "what limits it"),
        of_goals,
    ),
    Section(
        "H-Nets and isotropic models of equal work",
        "An H-Net was to be no slower a base than the isotropic model of as many operations. It is "
        "slower, since fewer of its operations are large products: `M15` has seven layers of Mamba-2 on "
        "all bases and fifteen on every third, the work of twelve, where `M10` has ten, and MLPs in "
        "place of the others; `T9` has windowed attention and MLPs alone, and windows of 1,024 need a "
        "fraction of the attention of longer ones. MFLOP of training a base.",
        ("gpu",),
        ("H-Net", "isotropic", "window", "MFLOP", "MFLOP", "Mbases/s", "Mbases/s", "times"),
        of_equal_work,
    ),
    Section(
        "Memory against time in training",
        "`python -m benchmarks.gpu --checkpointing light projections blocks`: the training pass of above by "
        "`activation_checkpointing`, as in [training](training.md#memory). Speed over that without it; "
        "milliseconds more a step, and the peak, each beside what the [next "
        "table](#memory-kept-for-the-backward-pass) had foreseen.",
        ("gpu",),
        ("model", "value", "Mbases/s", "of the speed", "ms more", "foreseen", "train GiB", "foreseen"),
        of_checkpointing,
    ),
    Section(
        "Memory kept for the backward pass",
        "`python -m benchmarks.kept_memory`: what `hnet M15` keeps of a step of 131,072 bases by "
        "`activation_checkpointing`, one value for the blocks of the outer stage and one for what is "
        "inside, as in [training](training.md#memory). Worked out on the CPU from the bytes that each "
        "line of code keeps; the peak is that of the measured step without checkpointing, less what is "
        "not kept and with what one block works out again, and the milliseconds are those of bytes and "
        "operations at the speed of an H200. A step takes one value for all of its blocks.",
        ("kept_memory",),
        ("outer stage", "inside", "kept GiB", "peak GiB", "ms more"),
        of_kept_memory,
    ),
    Section(
        "Bits per base by time",
        "`python -m benchmarks.yeast`: `hnet_1stage_dna` trained on one GPU on fifteen chromosomes of "
        "yeast and nine bacteria, and chromosome XVI, which it does not see, by seconds of training. The "
        "official H-Net code reached 1.8994 after 150 s and 64.7 Mbases of the same data on the same "
        "kind of device; the compressor GeCo3 needs 1.886 for the chromosome alone and 1.797 with the "
        "other fifteen as reference, while it learns from the chromosome as well.",
        ("yeast",),
        ("seconds", "Mbases", "bits a base"),
        of_quality,
    ),
    Section(
        "Several GPUs",
        "`python -m benchmarks.scaling SHARDS`: what `genotok train` runs, by `torchrun` with a process "
        "for each GPU (`parallel: ddp`), for `hnet_1stage_dna` with its 65 million parameters and "
        "windows of 8,192 letters. Times are those of whole steps with data, clipping and optimizer, the "
        "first ones left out. SHARDS are the embedded genomes of yeast and two bacteria:\n\n```\ngenotok "
        "tokenize resources/genomes/{yeast_R64,ecoli_K12,haemophilus_influenzae}.fa.gz -o "
        "SHARDS\n```\n\nWindows are those of a step. With so many a GPU the step grows with the GPUs "
        "(weak scaling: more data in the same time); with so many in all it stays as it is and each GPU "
        "takes its share (strong scaling: the same training in less time). The times are bases a second "
        "over those of one GPU in the same table, and beside them over what so many GPUs could do at "
        "best; the memory is the peak of the first GPU.\n\nWhat limits them: the gradients of all "
        "parameters are summed over the GPUs in the backward pass, while it goes on; and a step lasts as "
        "long as on the GPU whose windows are cut into more chunks, for which the others wait. Strong "
        "scaling pays for smaller passes as well, which use a GPU less well: compare one GPU with both "
        "numbers of windows. How much each of these takes was not measured. With two GPUs both tables do "
        "the same work a step, at other steps of a training, where the model makes other numbers of "
        "chunks; how far these two times are apart says how closely the ratios can be read.",
        ("scaling_weak_h200", "scaling_strong_h200"),
        ("windows", "GPUs", "bases/s", "ms a step", "times one GPU", "of the best", "peak GiB"),
        of_ranks,
    ),
    Section(
        "Training steps as CUDA graphs",
        "`python -m benchmarks.graph_step`: whole steps of `genotok train` on random letters, as "
        "launched from Python and with `cuda_graph: true`, all with room for as many chunks "
        "(`chunk_capacity`). The last column is the largest difference of a loss from that of the first "
        "run, in nats a base; that of the second launched run is chance, since sums on a GPU have no "
        "fixed order. The memory is what torch has reserved.\n\nWith so many bases a step a graph gains "
        "nothing: launched steps with `chunk_capacity` do not wait for the host, so that the GPU itself "
        "is the limit, and a graph spares nothing but launches. It holds about twice the memory, since "
        "that of the recorded pass stays beside that of launched steps. It can gain where Python is "
        "slower than the GPU, as with small models or few bases a step, of which no result is kept. The "
        "rows `graph` of [whole models](#whole-models) have a fixed room for chunks as well, and stand "
        "beside passes without one, which wait for the number of chunks.",
        ("graph_step_h200",),
        ("model", "bases a step", "way", "Mbases/s", "ms a step", "times launched", "GiB", "difference"),
        of_graph_steps,
    ),
    Section(
        "Precision",
        "`python -m benchmarks.precision`: 80 steps of 65,536 bases of `genotok train` in each precision, "
        "compilation left out of the rates. fp32 products are those of IEEE float32.",
        ("precision_gpu",),
        ("precision", "bases/s", "times bf16", "bits a base", "less bf16", "peak GiB"),
        of_precisions,
    ),
    Section(
        "Kernels of the outer stage",
        "`python -m benchmarks.kernels_outer`: 131,072 rows of width 512. Milliseconds, and the fraction of"
        " copy speed (of matrix products for attention).",
        ("kernels_outer",),
        ("operation", "forward", "of the bound", "with backward", "of the bound", "reference with backward"),
        of_outer_kernels,
    ),
    Section(
        "Kernels of Mamba-2",
        "`python -m benchmarks.kernels_ssd`. Milliseconds, and the fraction of whatever bounds the "
        "operation.",
        ("kernels_ssd_h200",),
        ("operation", "milliseconds", "of the bound", "reference"),
        of_state_space_kernels,
    ),
    Section(
        "What Mamba-2's kernels wait for",
        "`python -m benchmarks.counters`: the hardware's counters, by NVIDIA's Nsight Compute, in both "
        "passes of a mixer of the outer network, 131,072 rows. Shares are of what the device can do: of "
        "its memory bandwidth, of the warps that could be resident, of the instructions that could be "
        "issued. The last column is the mean number of cycles that a warp waits before it issues an "
        "instruction, for the two commonest reasons: `long_scoreboard` is a number from memory, "
        "`short_scoreboard` one from shared memory, `barrier` the other warps of the program, `wait` the "
        "instruction before. What limits them: no kernel of the state space fills the device's memory or "
        "its arithmetic. Of the scan and of both kernels of gradients, a program holds a state of 128 x "
        "64 and tiles of 64 x 64 in registers, so that an eighth of the warps that could be there fit, "
        "and little else has work while one waits. `states` has no more programs than sequences and "
        "heads. The convolution issues instructions most of the time, and the gated norm's forward pass "
        "is at the speed of memory.",
        ("counters_h200",),
        ("kernel", "ms", "memory bandwidth", "resident warps", "instructions", "registers", "waits"),
        of_counters,
    ),
    Section(
        "Long sequences",
        "`python -m benchmarks.long_context`: one sequence of 2^10 to 2^20 bases in bf16, the form in which"
        " dnaHNet reports its models (batch 1, forward; about 18 GB at 2^19 for its largest model on an "
        "H100). Training is forward, loss and backward, without an optimizer; `--checkpointing blocks` "
        "computes activations anew. A table of tab-separated values stands beside each JSON file.",
        ("long_context", "long_context_checkpointing", "long_context_hyenadna"),
        ("model", "task", "bases", "ms", "bases/s", "peak GiB"),
        of_lengths,
    ),
    Section(
        "Memory by length",
        "A straight line through the peaks of the same sweeps, by least squares of relative errors, and the"
        " exponent of the growth of what does not belong to the weights between the two longest; up to 1.1 "
        "counts as linear.",
        ("long_context", "long_context_checkpointing", "long_context_hyenadna"),
        ("sweep", "bytes a base", "GiB beside them", "worst error of the line", "exponent", "linear"),
        of_growth,
    ),
    Section(
        "Generation",
        "`python -m benchmarks.generation`: prompts of 512 letters, further ones one by one. A plain step "
        "asks the host at each chunking stage where chunks begin; a fixed step runs the stages inside for "
        "all sequences and asks nothing, and a CUDA graph replays it. What limits replays: with one prompt "
        "the kernels of a step, each of a few microseconds; with many the states of Mamba-2, which"
        " every step reads and writes once. The last column counts sequences that came out as by plain "
        "steps.",
        ("generation",),
        ("batch", "way", "letters", "letters/s", "ms a step", "equal sequences"),
        of_generation,
    ),
    Section(
        "Scoring",
        "`python -m benchmarks.scoring`: `genotok score` of single-nucleotide variants with random weights,"
        " files included, in variants a second. [Scoring](scoring.md) says when prefixes are shared.",
        ("scoring_h200", "scoring_reference_kernels_h200", "scoring_cpu"),
        ("model", "device", "precision", "window", "way", "variants/s"),
        of_scoring,
    ),
    Section(
        "Loss curves of the fast path and the reference",
        "`python -m benchmarks.loss_curves`: 500 steps of `genotok train` on *E. coli*, one seed, with the "
        "Triton kernels and with the torch reference of every operation. Differences in nats a base. "
        "Training is chaotic, so that a second reference run, with every weight moved by one rounding, "
        "shows what is chance.",
        ("loss_curves", "loss_curves_fp32", "loss_curves_bf16"),
        ("precision", "curves", "first 10 steps", "largest", "mean", "tolerance"),
        of_curves,
    ),
    Section(
        "The moving average over 2^20 chunks",
        "`python -m benchmarks.ema_drift`: relative errors against the recurrence in float64 in the first "
        "and the last 4,096 of 2^20 chunks and in the worst stretch, of the average and its gradients.",
        ("ema_drift",),
        ("probabilities", "of", "first", "last", "worst"),
        of_drift,
    ),
)
TAIL = """## On the CPU
`python -m benchmarks.cpu tokenize`, `load` and `vcf` measure tokenizing, reading shards and annotating VCF
files; their figures stand in [shards](shards.md) and [scoring](scoring.md).
"""


def page() -> str:
    """The text of the page."""
    return "\n".join([HEAD, *map(_section, SECTIONS), TAIL, _modules()])


def _modules() -> str:
    """Every benchmark, with the first sentence of what it says of itself."""
    rows = []
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0]
        if path.stem not in HELPERS:
            about = " ".join(text.split()).split(f": `python -m benchmarks.{path.stem}")[0].rstrip(".")
            rows.append(f"| `benchmarks.{path.stem}` | {about} |")
    return "\n".join(["## All benchmarks", "| module | what it measures |", "|---|---|", *rows, ""])


def _section(section: Section) -> str:
    parts = [f"## {section.title}\n{section.about}\n"]
    for name in section.files:
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text())
        found = list(section.rows(result))
        if not found:
            continue
        about = f"{result['device']}, `benchmarks/results/{name}.json`, commit {result['commit'][:7]}"
        limits = result.get("ceilings")
        if limits:
            speeds = f"{limits['copy_tb_s']:.2f} TB/s copied, {limits['matmul_tflop_s']:.0f} TFLOP/s of bf16 products"
            about += f"; the device itself: {speeds}"
        head = f"| {' | '.join(section.columns)} |\n{'|---' * len(section.columns)}|"
        rows = "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in found)
        parts.append(f"{about}\n\n{head}\n{rows}\n")
    if len(parts) == 1:
        parts.append("No result of it is kept yet.\n")
    return "\n".join(parts)


def _number(value: float | None) -> str:
    """Three digits, with commas in large ones; empty for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(page())
