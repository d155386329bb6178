"""What `python -m benchmarks.cpu tokenize` and `load` measure; see there."""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pyfaidx
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import KmerTokenizer, load_tokenizer

GENOMES = Path(__file__).parents[1] / "resources" / "genomes"
LINE = 60
# In a process of its own, for its peak of memory: not ru_maxrss, which begins with that of the process before.
TOKENIZE = """
import json, re, resource, sys, time
from pathlib import Path
from genotok.shards.writer import tokenize_genomes
def used():
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime
began, before = time.perf_counter(), used()
tokenize_genomes([Path(sys.argv[1])], Path(sys.argv[2]), **json.loads(sys.argv[3]))
seconds, cpu_seconds = time.perf_counter() - began, used() - before
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": peak / 1024}))
"""


def real_contigs() -> Iterator[tuple[str, bytes]]:
    """Names and letters of the contigs that come with the repository, in the case that they have."""
    for path in sorted(GENOMES.glob("*.fa.gz")):
        for record in gzip.decompress(path.read_bytes()).split(b">")[1:]:
            header, _, lines = record.partition(b"\n")
            yield header.split()[0].decode(), lines.replace(b"\n", b"")


def write_repeated(path: Path, letters: int) -> int:
    """Write a FASTA of so many letters or a few more: the real contigs, again and again; returns how many."""
    contigs = []
    for name, text in real_contigs():
        rows = np.frombuffer(text[: len(text) // LINE * LINE], np.uint8).reshape(-1, LINE)
        lines = np.pad(rows, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes()
        rest = text[len(rows) * LINE :]
        contigs.append((name, len(text), lines + (rest + b"\n" if rest else b"")))
    written = 0
    with open(path, "wb") as file:
        for number, (name, length, lines) in enumerate(cycle(contigs)):
            if written >= letters:
                return written
            file.write(f">{name}_{number}\n".encode() + lines)
            written += length
    return written


def best_rate(letters: int, run: Callable[[], object], repeats: int) -> dict[str, float]:
    """Million letters a second of processor time, of the fastest of some runs and of each."""
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        rates.append(round(letters / (time.process_time() - began) / 1e6, 2))
    return {"mbases_per_cpu_second": max(rates), "all_runs": rates}


def character_tokenizer() -> Tokenizer:
    """A token a letter, by Hugging Face's `tokenizers`."""
    tokenizer = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate("ACGTN?")}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return tokenizer


def byte_pair_tokenizer() -> Tokenizer:
    """The 512 byte pairs that come with the package, by Hugging Face's `tokenizers` alone."""
    own = load_tokenizer("bpe")
    pairs = [tuple(merge.split(" ")) for merge in own.merges]
    return Tokenizer(models.BPE(own.vocabulary | {"N": 4, "?": own.unknown_id}, pairs, unk_token="?"))


def tokenize(options: argparse.Namespace) -> dict:
    """Rates of encoding letters in memory, and of a FASTA to shards."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        letters = write_repeated(folder / "g.fa", options.bases)
        figures = {"bases": letters, "shards": _shards(folder, letters, options)}
        some = write_repeated(folder / "some.fa", options.beside)
        figures["beside"] = _beside(folder / "some.fa", some, options)
        figures["encode"] = _encoding(options)
    return figures


def _shards(folder: Path, letters: int, options: argparse.Namespace) -> dict:
    runs = []
    for _ in range(options.repeats):
        settings = json.dumps({"window": options.window, "deduplicate": "no"})
        command = [sys.executable, "-c", TOKENIZE, str(folder / "g.fa"), str(folder / "shards"), settings]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        run = {key: round(value, 2) for key, value in json.loads(done.stdout).items()}
        run["mbases_per_second"] = round(letters / run["seconds"] / 1e6, 1)
        run["mbases_per_cpu_second"] = round(letters / run["cpu_seconds"] / 1e6, 1)
        runs.append(run)
    return max(runs, key=lambda run: run["mbases_per_cpu_second"]) | {"runs": runs}


def _beside(fasta: Path, letters: int, options: argparse.Namespace) -> dict:
    """The same windows to ids, with nothing written, as one does it without this package."""
    genome = pyfaidx.Fasta(str(fasta), as_raw=True, sequence_always_upper=True)
    codes = {letter: code for code, letter in enumerate("ACGTN")}

    def windows() -> Iterator[str]:
        for name in genome.keys():  # noqa: SIM118 (a Fasta iterates over records)
            length = len(genome[name])
            for start in range(0, length, options.window):
                yield genome[name][start : min(start + options.window, length)]

    def loop() -> None:
        for window in windows():
            np.array([codes.get(letter, 4) for letter in window], np.uint8)

    def by(tokenizer: Tokenizer) -> Callable[[], None]:
        def run() -> None:
            for window in windows():
                np.array(tokenizer.encode(window).ids)

        return run

    few = max(1, options.repeats - 1)
    return {
        "bases": letters,
        "pyfaidx_and_python": best_rate(letters, loop, few),
        "pyfaidx_and_tokenizers_characters": best_rate(letters, by(character_tokenizer()), few),
        "pyfaidx_and_tokenizers_bpe": best_rate(letters, by(byte_pair_tokenizer()), few),
    }


def _encoding(options: argparse.Namespace) -> dict:
    """Letters in memory, in windows, to ids."""
    text = b"".join(text for _, text in real_contigs())
    windows = [text[i : i + options.window] for i in range(0, len(text), options.window)]
    tokenizers = {name: load_tokenizer(name) for name in ("nucleotide", "byte", "kmer", "codon", "ntv2")}
    tokenizers |= {
        f"kmer {k} by {stride}": KmerTokenizer(k, stride) for k, stride in ((3, 1), (6, 1), (8, 1), (8, 8))
    }

    def run(tokenizer) -> Callable[[], None]:
        def encode() -> None:
            for window in windows:
                tokenizer.encode_letters(window)

        return encode

    return {
        name: best_rate(len(text), run(tokenizer), 2 * options.repeats)
        for name, tokenizer in tokenizers.items()
    }


def load(options: argparse.Namespace) -> dict:
    """Rates of reading shards in a shuffled order."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bases = write_repeated(folder / "g.fa", options.beside)
        tokenize_genomes([folder / "g.fa"], folder / "shards", window=options.window)
        dataset = ShardDataset(folder / "shards", "train")
        order = np.random.default_rng(1).permutation(len(dataset))
        figures = {"bases": bases, "windows": len(dataset)}
        figures["ids"] = best_rate(bases, lambda: [dataset[i].ids for i in order], options.repeats)
        figures["tensors"] = best_rate(bases, lambda: [dataset.ids_tensor(i) for i in order], options.repeats)
        for name in ("nucleotide", "kmer"):
            batches = TrainingBatches(dataset, options.batch_size, 1, True, tokenizer=load_tokenizer(name))
            count = -(-len(dataset) // options.batch_size)
            run = best_rate(bases, lambda: [next(batches) for _ in range(count)], options.repeats)  # noqa: B023
            figures[f"batches_{name}"] = run
        figures["beside"] = _loading_beside(folder / "g.fa", dataset, order, bases, options)
    return figures


def _loading_beside(
    fasta: Path, dataset: ShardDataset, order: np.ndarray, bases: int, options: argparse.Namespace
) -> dict:
    """The same windows in the same order from FASTA."""
    genome = pyfaidx.Fasta(str(fasta), as_raw=True, sequence_always_upper=True)
    codes = {letter: code for code, letter in enumerate("ACGTN")}
    characters = character_tokenizer()
    some = [dataset[i] for i in order[: max(1, len(order) // 4)]]
    letters = sum(len(window.ids) for window in some)
    places = [(window.contig, window.start, window.start + len(window.ids)) for window in some]

    def loop() -> None:
        for name, start, end in places:
            np.array([codes.get(letter, 4) for letter in genome[name][start:end]])

    def by_tokenizers() -> None:
        for name, start, end in places:
            np.array(characters.encode(genome[name][start:end]).ids)

    return {
        "pyfaidx_and_python": best_rate(letters, loop, options.repeats),
        "pyfaidx_and_tokenizers_characters": best_rate(letters, by_tokenizers, options.repeats),
    }
