"""The comparison of tokenizers on a bare machine, without Snakemake: `python -m benchmarks.tokenizers`.

Goes through what `genotok compare` goes through: the same plan, runs and report. It takes the embedded genomes, or a
folder of FASTA files, and shares the runs among GPUs, one process each. A run that is done is kept under --runs and
in the JSON, which is written anew whenever one ends; a later call goes on from either, on another machine with
`--go-on JSON`. With --minutes no run begins that would probably not end in time, and those that have not ended then
write a checkpoint, from which they go on where --runs is still there. A run that fails is told and left out, and
tried again by the next call.

With --pilot the arms whose chunks nobody fixes are first trained once, with a seed of their own, and sized with the
chunks that they made in place of those that they are steered to.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_run, write_result
from genotok.atomic import atomic_path
from genotok.comparison.arms import ENTROPY, LEARNED, find_arm
from genotok.comparison.baselines import measure_baselines
from genotok.comparison.plan import make_plan
from genotok.comparison.report import PAGE, report_comparison
from genotok.comparison.runs import MEASURES_NAME, run_arm
from genotok.comparison.settings import ComparisonSettings, ProbeTable, VariantSettings
from genotok.comparison.summary import with_whole_seeds
from genotok.genomes.records import source_name
from genotok.shards.manifest import merge_manifests
from genotok.shards.reader import training_letters
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import train_bpe
from genotok.training.interruption import Terminated

RESOURCES = Path(__file__).parents[1] / "resources"
GENOMES = ("yeast_R64", "ecoli_K12", "haemophilus_influenzae", "viruses")
ENDINGS = (".fa", ".fna", ".fasta")
ARMS = (
    *("transformer", "mamba2", "static_3", "static_4", "static_6", "kmer_6"),
    *("bpe_32", "bpe_512", "entropy", "merge", "hnet_1stage", "hnet_2stage"),
)
PLAN, BASELINES, CLAIMS, FAILURE = "plan.json", "baselines.json", "claims", "failure.txt"
WORKER, COUNTER = "--worker", "--baselines"
PILOT, PILOT_SEED = "pilot", 1000
SECONDS_TO_STOP = 20  # that a run has for its checkpoint at the end of --minutes


def find_genomes(folder: Path | None) -> list[Path]:
    """The FASTA files of a folder, by name; None for the embedded genomes."""
    if folder is None:
        return [RESOURCES / "genomes" / f"{name}.fa.gz" for name in GENOMES]
    found = sorted(path for path in folder.iterdir() if path.name.removesuffix(".gz").endswith(ENDINGS))
    if not found:
        raise SystemExit(f"{folder}: holds no FASTA file")
    return found


def make_shards(options: argparse.Namespace) -> Path:
    """Make the shards of all genomes, unless they are there: one genome and one contig are for testing."""
    shards = options.runs / "shards"
    if (shards / "manifest.json").is_file():
        return shards
    folders, names = [], []
    for path in find_genomes(options.genomes):
        name = source_name(path)
        held = {
            "valid": [one for one in options.valid if one.startswith(f"{name}:")],
            "test": [one for one in options.test_contigs if one.startswith(f"{name}:")],
            "rest": "test" if name in options.test_genomes else "train",
        }
        folders.append(shards / name)
        names.append(name)
        tokenize_genomes([path], folders[-1], window=options.window, names=[name], **held)
    for name in options.test_genomes:
        if name not in names:
            raise SystemExit(f"--test-genomes: {name!r} is none of {', '.join(names)}")
    merge_manifests(folders, shards).save(shards)
    return shards


def make_vocabularies(options: argparse.Namespace, shards: Path) -> None:
    """Learn the byte pairs that the arms need of the split train, unless they are there."""
    for size in sorted({find_arm(name).vocabulary for name in options.arms} - {0}):
        file = options.runs / f"bpe_{size}.json"
        if not file.is_file():
            with atomic_path(file) as path:
                path.write_text(train_bpe(training_letters(shards), size).to_json())


def settings(
    options: argparse.Namespace, shards: Path, expected_rows: dict[str, list[float]]
) -> ComparisonSettings:
    """Of the comparison."""
    steps = round(options.bases / (options.batch_size * options.window))
    return ComparisonSettings(
        shards=str(shards),
        train={
            "steps": steps,
            "batch_size": options.batch_size,
            "learning_rate": options.learning_rate,
            "device": options.device,
            "threads": 1 if options.device == "cpu" else 4,
            "log_every": max(steps // 50, 1),
            "loader_workers": options.loader_workers,
            "checkpoint_every": steps // 4,
            "keep_checkpoints": 1,
        },
        arms=list(options.arms),
        seeds=list(options.seeds),
        flops_per_base=options.flops,
        expected_rows=expected_rows,
        tokenizers=str(options.runs),
        sites=options.sites,
        draws=options.draws,
        entropy_share=options.entropy_share,
        evaluate_batch_size=options.evaluate_batch_size,
        variants=VariantSettings(
            str(options.vcf),
            str(RESOURCES / "genomes" / "sars_cov_2.fa.gz"),
            "FITNESS",
            options.variant_window,
        ),
        probe=ProbeTable(str(RESOURCES / "labelled" / "ecoli_promoters.csv.gz"), "labels", "seqs"),
    )


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """Where a run is kept."""
    return runs / f"{name}-{seed}"


def in_turn(plan: dict[str, Any]) -> list[tuple[str, int]]:
    """All runs: every arm with the first seed, then with the next, so that an early end leaves whole seeds."""
    return [(name, seed) for seed in plan["settings"]["seeds"] for name in plan["arms"]]


def work(runs: Path, ends_at: float) -> bool:
    """Do the runs of a plan that no other worker has claimed, as long as there is time.

    Args:
        runs: folder with the plan.
        ends_at: by the clock of the system, in seconds.

    Returns:
        Whether none of them failed; what was said of one that did stands in its folder.
    """
    plan, longest, good = json.loads((runs / PLAN).read_text()), 0.0, True
    for name, seed in in_turn(plan):
        folder = run_folder(runs, name, seed)
        if (folder / MEASURES_NAME).is_file() or time.time() + longest > ends_at:
            continue
        try:
            (runs / CLAIMS / folder.name).touch(exist_ok=False)
        except FileExistsError:
            continue
        began = time.time()
        try:
            run_arm(plan, name, seed, folder)
        except Terminated as stop:
            raise SystemExit(143) from stop
        except Exception:  # one arm must not take all others with it
            good = False
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FAILURE).write_text(traceback.format_exc())
            print(f"{name}, seed {seed}: failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            continue
        longest = max(longest, time.time() - began)
        print(f"{name}, seed {seed}: done in {time.time() - began:.0f} s", file=sys.stderr, flush=True)
    return good


def count_words(runs: Path) -> None:
    """Write the baselines of a plan."""
    write_result(runs / BASELINES, measure_baselines(json.loads((runs / PLAN).read_text())))


def pilot(options: argparse.Namespace, shards: Path, ends_at: float) -> dict[str, list[float]]:
    """Rows a chunk that arms are sized with: those of --expect, and with --pilot what chunks turn out to be.

    An arm whose pilot fails is sized with the chunks that it is steered to.
    """
    learning = [name for name in options.arms if find_arm(name).family in (ENTROPY, LEARNED)]
    known = dict(options.expect)
    if not options.pilot or not learning:
        return known
    folder = options.runs / PILOT
    folder.mkdir(exist_ok=True)
    plain = settings(options, shards, known)
    plan = make_plan(
        replace(
            plain, arms=[*learning, "transformer"], seeds=[PILOT_SEED], variants=None, probe=None, sites=0
        )
    )
    plan["arms"].pop("transformer")  # a plan has two arms at least
    write_result(folder / PLAN, plan)
    wait(start_workers(options, folder, ends_at), ends_at, saver(options, None))
    for name in learning:
        run = run_folder(folder, name, PILOT_SEED)
        if (run / MEASURES_NAME).is_file():
            fractions = json.loads((run / MEASURES_NAME).read_text())["chunk_fraction"]
            known[name] = [round(1 / part, 3) for part in fractions]
        elif not (run / FAILURE).is_file():
            raise SystemExit(f"the pilot of {name} has not ended; see {folder}/worker_*.log, and call again")
    return known


def wait(
    workers: Sequence[subprocess.Popen],
    ends_at: float,
    save: Callable[[], object],
    seconds_to_stop: float = SECONDS_TO_STOP,
) -> list[int]:
    """The exit codes of workers, which are told to stop where this process is, and at the end of the time.

    Args:
        workers: processes.
        ends_at: by the clock of the system, in seconds.
        save: called twice a second.
        seconds_to_stop: after which those that do not listen are killed.
    """

    def stop(*_: Any) -> None:
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    told = False
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.5)
        save()
        if time.time() > ends_at and not told:
            told = True
            stop()
        if time.time() > ends_at + seconds_to_stop:
            for worker in workers:
                worker.kill()
    save()
    return [worker.wait() for worker in workers]


def start_workers(options: argparse.Namespace, runs: Path, ends_at: float) -> list[subprocess.Popen]:
    """Processes that share the runs in a folder, each with a GPU; the log of each is there."""
    claims = runs / CLAIMS
    claims.mkdir(exist_ok=True)
    for stale in [*claims.iterdir(), *runs.glob(f"*/{FAILURE}")]:
        stale.unlink()
    found = []
    for number in range(options.gpus * options.jobs_per_gpu):
        visible = {} if options.device == "cpu" else {"CUDA_VISIBLE_DEVICES": str(number % options.gpus)}
        found.append(start(runs, f"worker_{number}.log", visible, WORKER, str(runs), str(ends_at)))
    return found


def start(runs: Path, log: str, environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    """This module as another process."""
    command = [sys.executable, "-m", "benchmarks.tokenizers", *arguments]
    with open(runs / log, "a") as file:
        return subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)


def measured(runs: Path) -> list[Path]:
    """The files of the runs of a folder that are done."""
    return sorted(runs.glob(f"*/{MEASURES_NAME}"))


def collect(options: argparse.Namespace, plan: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that is known so far, as JSON values.

    Args:
        options: of the command line.
        plan: None where the pilots come first.
    """
    pilots = [json.loads(file.read_text()) for file in measured(options.runs / PILOT)]
    runs = [] if plan is None else [json.loads(file.read_text()) for file in measured(options.runs)]
    if plan is not None:
        turn = in_turn(plan)
        runs.sort(key=lambda run: turn.index((run["arm"], run["seed"])))
    file = options.runs / BASELINES
    machine = describe_run(options.device, options.commit) | {
        "gpus": options.gpus,
        "jobs_per_gpu": options.jobs_per_gpu,
        "seconds_of_training": sum(run["seconds"] for run in runs),
        "seconds_of_pilots": sum(run["seconds"] for run in pilots),
    }
    return {
        "machine": machine,
        "plan": plan and without_folders(plan),
        "baselines": json.loads(file.read_text()) if plan is not None and file.is_file() else None,
        "runs": runs,
        "pilots": pilots,
    }


def saver(options: argparse.Namespace, plan: dict[str, Any] | None) -> Callable[[], None]:
    """A function that writes what is known, whenever that is more than the last time."""
    before: list[Path] = []

    def save() -> None:
        nonlocal before
        baselines = options.runs / BASELINES
        now = [*measured(options.runs), *measured(options.runs / PILOT), *options.runs.glob(baselines.name)]
        if now != before:
            write_result(options.output, collect(options, plan))
            before = now

    return save


def finish(options: argparse.Namespace, plan: dict[str, Any], ended: Sequence[int]) -> None:
    """Say what is done and what is left, and report on the seeds that every arm has."""
    known = collect(options, plan)
    done = {(run["arm"], run["seed"]) for run in known["runs"]}
    left = [f"{name}-{seed}" for name, seed in in_turn(plan) if (name, seed) not in done]
    print(
        f"{len(done)} runs done, {len(left)} left: {', '.join(left)}"
        if left
        else f"all {len(done)} runs done"
    )
    for failure in sorted(options.runs.glob(f"**/{FAILURE}")):
        print(f"{failure.parent.name} failed: {failure.read_text().strip().splitlines()[-1]}")
    if any(ended):
        print(f"a worker ended with {max(ended, key=abs)}; see {options.runs}/worker_*.log")
    shown, chosen = with_whole_seeds(known["plan"], known["runs"])
    if len({run["arm"] for run in chosen}) > 1:
        folder = options.output.parent
        report_comparison(shown, chosen, folder, known["baselines"], known["machine"])
        print((folder / PAGE).read_text())


def without_folders(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan that is the same on every machine: of its files the names alone."""
    shared = plan["settings"]
    bare = {"shards": Path(shared["shards"]).name, "tokenizers": ""}
    for section, keys in (("variants", ("vcf", "reference")), ("probe", ("table",))):
        if shared[section] is not None:
            bare[section] = shared[section] | {key: Path(shared[section][key]).name for key in keys}
    return plan | {"settings": shared | bare}


def earlier_rows(options: argparse.Namespace) -> dict[str, list[float]] | None:
    """The rows a chunk with which an earlier call has sized its arms; None where none has."""
    here = options.runs / PLAN
    plan = json.loads(here.read_text()) if here.is_file() else None
    if plan is None and options.go_on:
        plan = json.loads(options.go_on.read_text())["plan"]
    return None if plan is None or not options.pilot else plan["settings"]["expected_rows"]


def restore(options: argparse.Namespace) -> None:
    """Put the runs of an earlier JSON where they were, so that they are not made again, and the baselines."""
    earlier = json.loads(options.go_on.read_text())
    if earlier["baselines"] is not None:
        write_result(options.runs / BASELINES, earlier["baselines"])
    for folder, runs in ((options.runs, earlier["runs"]), (options.runs / PILOT, earlier.get("pilots", []))):
        for run in runs:
            file = run_folder(folder, run["arm"], run["seed"]) / MEASURES_NAME
            if not file.is_file():
                write_result(file, run)


def check_plan(plan: dict[str, Any], file: Path, earlier: dict[str, Any] | None) -> None:
    """End where runs are of another plan than this one, folders aside."""
    plan = json.loads(json.dumps(plan))
    if earlier is not None and without_folders(earlier) != without_folders(plan):
        raise SystemExit(f"{file}: holds runs of another plan; take another folder")


def compare(options: argparse.Namespace) -> None:
    """Plan, run, and report."""
    ends_at = time.time() + 60 * options.minutes
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.go_on:
        restore(options)
    shards = make_shards(options)
    make_vocabularies(options, shards)
    expected_rows = earlier_rows(options)
    if expected_rows is None:
        expected_rows = pilot(options, shards, ends_at)
    plan = make_plan(settings(options, shards, expected_rows))
    here = options.runs / PLAN
    if here.is_file():
        check_plan(plan, options.runs, json.loads(here.read_text()))
    if options.go_on:
        check_plan(plan, options.go_on, json.loads(options.go_on.read_text())["plan"])
    write_result(here, plan)
    workers = start_workers(options, options.runs, ends_at)
    if not (options.runs / BASELINES).is_file():  # on the CPU, while the GPUs work
        workers.append(start(options.runs, "baselines.log", {}, COUNTER, str(options.runs)))
    ended = wait(workers, ends_at, saver(options, plan))
    finish(options, plan, ended)


def expected(text: str) -> tuple[str, list[float]]:
    """ARM=ROWS or ARM=ROWS,ROWS."""
    name, _, rows = text.partition("=")
    return name, [float(one) for one in rows.split(",")]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenizers")
    parser.add_argument("--genomes", type=Path, help="folder of FASTA files; without it the embedded genomes")
    parser.add_argument("--valid", nargs="*", default=["yeast_R64:XV"], metavar="GENOME:CONTIG")
    parser.add_argument("--test-contigs", nargs="*", default=["yeast_R64:XVI"], metavar="GENOME:CONTIG")
    parser.add_argument("--test-genomes", nargs="*", default=["haemophilus_influenzae"], metavar="GENOME")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--flops", type=float, default=3e7, help="operations of training a base")
    parser.add_argument("--bases", type=float, default=48e6, help="that every run reads")
    parser.add_argument("--window", type=int, default=1008, help="letters; a multiple of all fixed cuts")
    parser.add_argument("--batch-size", type=int, default=64, help="windows a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--expect", type=expected, nargs="*", default=[], metavar="ARM=ROWS[,ROWS]")
    parser.add_argument(
        "--pilot", action="store_true", help="size arms that find their chunks by a run before"
    )
    parser.add_argument("--entropy-share", type=float, default=0.1)
    parser.add_argument("--sites", type=int, default=256)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--evaluate-batch-size", type=int, default=64)
    vcf = RESOURCES / "variants" / "sars_cov_2_fitness_sample.vcf.gz"
    parser.add_argument("--vcf", type=Path, default=vcf)
    parser.add_argument("--variant-window", type=int, default=504)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument(
        "--jobs-per-gpu", type=int, default=1, help="more than 1 spoils the rates and the memory"
    )
    parser.add_argument("--loader-workers", type=int, default=2)
    parser.add_argument(
        "--minutes",
        type=float,
        default=1e4,
        help="no run begins that would end after these, and what has not ended stops; the report comes after",
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder where runs are kept")
    parser.add_argument("--go-on", type=Path, metavar="JSON", help="of an earlier call, whose runs are kept")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="JSON to write, the report beside it"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        sys.exit(0 if work(Path(sys.argv[2]), float(sys.argv[3])) else 1)
    elif sys.argv[1:2] == [COUNTER]:
        count_words(Path(sys.argv[2]))
    else:
        compare(parse())
