"""Mutated VCF and FASTA files through `score_vcf`: each ends in scores, or in one clean sentence.

    python tests/variants/fuzz.py --seed 1 --count 10000

A case is made of the seed and its number alone, so `--first 4711 --count 1` runs number 4711 again.
"""

import argparse
import faulthandler
import gzip
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

import pysam
import torch
from pysam import bcftools

from genotok.errors import InputError
from genotok.models import GenomicLM, ModelConfig
from genotok.variants.score import score_vcf
from genotok.variants.vcf_input import open_vcf, quiet_htslib

DATA = Path(__file__).parents[1] / "data"
SECONDS = 20  # a case takes some 10 ms
CHR1 = "ACGTTGCAACNNRYACGTTTTTGGCATGCAACCACACACACAGGATUacgtacgtnn" * 12
CHR2, MT = "GATTACA" * 30, "ACGT" * 10
HEADER = """\
##fileformat=VCFv4.3
##source="a, b"
##contig=<ID=chr1,length=684,assembly=x>
##contig=<ID=2,length=210>
##INFO=<ID=AF,Number=A,Type=Float,Description="a, b=c">
##INFO=<ID=END,Number=1,Type=Integer,Description="x">
##INFO=<ID=DB,Number=0,Type=Flag,Description="x">
##FILTER=<ID=q10,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2
"""
RECORDS = """\
chr1\t0\t.\tN\t<DUP>\t.\t.\tEND=5\tGT\t0/1\t.
chr1\t1\trs1;rs2\tA\tC,G,T\t30\tPASS\tAF=0.5,0.1,1e-05\tGT:AD\t0/1:3,4,0,0\t./.:.
chr1\t2\t.\tCGT\tC\t1e-3\tq10\tDB\tGT\t0|1\t1|1
chr1\t5\t.\tT\tTGA,*,<NON_REF>\t.\t.\t.\tGT\t0/2\t0/0
chr1\t9\t.\tACN\tA\t.\tq10;s5\tEND=11\tGT\t0/1\t0/0
chr1\t13\t.\tR\tC\t.\t.\tX=a%3Bb\tGT\t0/1\t0/0
chr1\t20\t.\ttt\tgca\t.\t.\tDB;AF=.\tGT\t0/1\t0/0
chr1\t33\t.\tCAC\tC,CACAC\t.\t.\t.\tGT\t1/2\t0/0
chr1\t40\t.\tA\tA[2:50[,]2:3]A,.A,N\t.\t.\tSVTYPE=BND\tGT\t0/1\t0/0
chr1\t45\t.\tA\t.\t99.123456789\tPASS\tEND=60\tGT\t0/0\t0/0
chr1\t684\t.\tN\tA\t.\t.\t.\tGT\t0/1\t0/0
chr1\t685\t.\tN\t<DEL>\t.\t.\t.\tGT\t0/1\t0/0
chr2\t7\t.\tAGATTACA\tA\t.\t.\t.\tGT\t0/1\t0/0
2\t7\t.\tA\tU\t.\t.\t.\tGT\t0/1\t0/0
chrM\t40\t.\tT\tTACGT\t.\t.\t.\tGT\t1\t0
un\t1\t.\tA\tC\t.\t.\t.\tGT\t0/1\t0/0
"""
ODD_FIELDS = (
    b"", b".", b"0", b"-1", b"1e5", b"4294967296", b"9" * 30, b"9" * 5000, b"N", b"*", b"<DEL>", b"<", b"]]", b",",
    b",,", b";", b"=", b"A,", b".,.", b"ACGT" * 500, b"acgu", b"\xff\xfe", "\u00e4".encode(), b"END=99999999999",
    b"END=.", b"SVLEN=-600000000", b"GENOTOK_LLR=1", b"chr1", b"NC_000001.11", b"a b", b"<chr1>", b"c,d", b"%", b'"',
    b"\r", b"\x00", b"PASS", b"nan", b"0/1:2:3", b":",
)  # fmt: skip
ODD_LINES = (
    b"", b"\n", b" \n", b"\t\n", b"##\n", b"#\n", b"##x=<\n", b"##contig=<ID=,length=>\n", b"##contig=<ID=2>\n",
    b"##contig=<ID=chr1,length=" + b"9" * 5000 + b">\n", b"##INFO=<ID=END\n", b"##fileformat=VCFv4.2\n", b"\xff\n",
    b"##INFO=<ID=GENOTOK_LLR,Number=1,Type=String,Description=\"x\">\n", b">chr3\n", b">\n", b"> x\n", b"ACGTNN\n",
    b"acgu-RYK\n", b"chr1\t5\t.\tT\tA\t.\t.\t.\n", b"#CHROM\tPOS\n", b"\x1f\x8b\n", b"A" * 100_000 + b"\n",
)  # fmt: skip

Mutation = Callable[[random.Random, bytes], bytes]


def tiny_model(folder: Path) -> Path:
    """One block of 8 channels: its cost does not count."""
    torch.manual_seed(1)
    attention = {"heads": 1, "rotary_dim": 8, "window": -1}
    GenomicLM(
        ModelConfig(
            layout=["T1"], d_model=[8], d_intermediate=[8], attention=attention, tokenizer="nucleotide"
        )
    ).save_pretrained(folder)
    return folder


def a_span(rng: random.Random, data: bytes, longest: int = 200) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randint(1, longest))


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def random_bytes(rng: random.Random, data: bytes) -> bytes:
    start, end = a_span(rng, data, 20)
    return data[:start] + rng.randbytes(rng.randint(0, 20)) + data[end:]


def cut_out(rng: random.Random, data: bytes) -> bytes:
    start, end = a_span(rng, data)
    return data[:start] + data[end:]


def repeat_span(rng: random.Random, data: bytes) -> bytes:
    start, end = a_span(rng, data)
    return data[:end] + data[start:end] * rng.randint(1, 3) + data[end:]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def change_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    here, there = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[here]
    elif kind == 1:
        lines[here], lines[there] = lines[there], lines[here]
    elif kind == 2:
        lines.insert(there, lines[here])
    elif kind == 3:
        body = lines[here:]
        rng.shuffle(body)
        lines[here:] = body
    elif kind == 4:
        lines.insert(here, rng.choice(ODD_LINES))
    else:
        lines[here] = lines[here].rstrip(b"\n")
    return b"".join(lines)


def change_field(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    here = rng.randrange(len(lines))
    fields = lines[here].split(rng.choice((b"\t", b"\t", b"\t", b";", b",", b"=")))
    there = rng.randrange(len(fields))
    kind = rng.randrange(4)
    if kind == 0:
        del fields[there]
    elif kind == 1:
        fields.insert(there, rng.choice(ODD_FIELDS))
    else:
        fields[there] = rng.choice(ODD_FIELDS)
    lines[here] = b"\t".join(fields)
    return b"\n".join(lines)


def change_record_field(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    places = [i for i, line in enumerate(lines) if line.count(b"\t") > 6 and not line.startswith(b"#")]
    if not places:
        return data
    here = rng.choice(places)
    fields = lines[here].split(b"\t")
    fields[rng.randrange(len(fields))] = rng.choice(ODD_FIELDS)
    lines[here] = b"\t".join(fields)
    return b"\n".join(lines)


def change_ends(rng: random.Random, data: bytes) -> bytes:
    kind = rng.randrange(4)
    if kind < 2:
        return data.replace(b"\n", (b"\r\n", b"\r")[kind])
    return (b"\xef\xbb\xbf" + data) if kind == 2 else data + b"\n" * rng.randint(1, 3)


TEXT: tuple[Mutation, ...] = (
    flip_bits, random_bytes, cut_out, repeat_span, truncate, change_lines, change_lines, change_field, change_ends,
    *[change_record_field] * 7,
)  # fmt: skip
BINARY: tuple[Mutation, ...] = (flip_bits, random_bytes, cut_out, repeat_span, truncate)


def mutated(rng: random.Random, data: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        data = rng.choice(mutations)(rng, data)
    return data


def packed(rng: random.Random, path: Path, kinds: tuple[str, ...], damaged: float) -> None:
    """Compress a file, and damage a part of those; the name does not change."""
    kind, text = rng.choice(kinds), path.read_bytes()
    if kind == "bgzf":
        with pysam.BGZFile(str(path), "wb") as sink:
            for start in range(0, len(text), 3000):
                sink.write(text[start : start + 3000])
                sink.flush()
    elif kind == "gzip":
        path.write_bytes(gzip.compress(text, 1, mtime=0))
    elif kind == "bcf":
        whole = path.with_name("whole.bcf")
        with suppress(pysam.SamtoolsError):  # a mutated text that htslib does not read stays text
            bcftools.view("--no-version", "-Ob", "-o", str(whole), str(path), catch_stdout=False)
            whole.replace(path)
        whole.unlink(missing_ok=True)
    if kind != "text" and rng.random() < damaged:
        path.write_bytes(rng.choice(BINARY)(rng, path.read_bytes()))


def write_fasta(rng: random.Random, folder: Path) -> Path:
    """A FASTA, mutated or not, with an index of its own, of an older state, damaged, or none."""
    fasta = folder / "genome.fa"
    width = rng.choice((7, 60, 1000))
    text = "".join(
        f">{name}\n" + "".join(letters[i : i + width] + "\n" for i in range(0, len(letters), width))
        for name, letters in (("chr1 first", CHR1), ("2", CHR2), ("MT", MT))
    ).encode()
    fasta.write_bytes(text)
    before = rng.random() < 0.3
    if before:
        pysam.faidx(str(fasta))
    if rng.random() < 0.3:
        fasta.write_bytes(mutated(rng, text, TEXT))
    packed(rng, fasta, ("text", "text", "bgzf"), 0.15)
    index = folder / "genome.fa.fai"
    if before and rng.random() < 0.5:
        index.write_bytes(mutated(rng, index.read_bytes(), TEXT))
        os.utime(index)
    return fasta


def write_vcf(rng: random.Random, folder: Path) -> Path:
    vcf = folder / "in.vcf"
    if rng.random() < 0.15:
        lines = (DATA / "freebayes_NA12878.chr22.tiny.vcf").read_bytes().splitlines(keepends=True)
        header = [line for line in lines if line.startswith(b"#")]
        text = b"".join([*header, *lines[len(header) : len(header) + 8]])
    else:
        text = (HEADER + RECORDS).encode()
    vcf.write_bytes(mutated(rng, text, TEXT))
    packed(rng, vcf, ("text", "text", "text", "gzip", "bgzf", "bcf"), 0.3)
    return vcf


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def run_case(rng: random.Random, folder: Path, model: Path) -> str:
    """Score one pair of files; returns `scores` or the complaint.

    Raises:
        AssertionError: the end was not clean.
        Exception: whatever else scoring raises.
    """
    fasta, vcf = write_fasta(rng, folder), write_vcf(rng, folder)
    output = folder / "out" / f"out{rng.choice(('.vcf', '.vcf.gz', '.bcf'))}"
    options = {
        "window": rng.choice((2, 3, 16, 64)),
        "strands": rng.choice(("both", "forward")),
        "ref_mismatch": rng.choice(("error", "skip", "skip", "use-vcf", "use-vcf")),
        "parquet": folder / "out" / "scores.parquet" if rng.random() < 0.3 else None,
    }
    before = {path.name for path in folder.iterdir()}
    said = io.StringIO()
    try:
        with redirect_stderr(said), time_limit(SECONDS):
            counts = score_vcf(str(vcf), fasta, model, str(output), threads=1, device="cpu", **options)
    except InputError as error:
        check_refusal(str(error), folder / "out")
        return str(error)
    finally:
        made = {path.name for path in folder.iterdir()} - before
        assert made <= {"out", "genome.fa.fai", "genome.fa.gzi"}, made
    assert "Traceback" not in said.getvalue()
    check_output(vcf, output, counts, options["parquet"])
    return "scores"


def check_refusal(sentence: str, outputs: Path) -> None:
    assert sentence
    assert "\n" not in sentence, repr(sentence)
    left = sorted(path.name for path in outputs.iterdir()) if outputs.exists() else []
    assert not left, f"{left} left behind after: {sentence}"


def check_output(vcf: Path, output: Path, counts: dict[str, int], parquet: Path | None) -> None:
    """What was written is whole, and the input's records are all in it, in their order."""
    allowed = {output.name, f"{output.name}.tbi", f"{output.name}.csi", "scores.parquet"}
    names = {path.name for path in output.parent.iterdir()}
    assert names <= allowed, names
    assert parquet is None or parquet.exists()
    with open_vcf(vcf) as before:
        old = list(before)
    assert sum(counts.values()) == sum(max(1, len(record.alts)) for record in old)
    if output.suffix == ".bcf":
        assert htslib_records(output) == len(old)
    else:
        with open_vcf(output) as after:
            new = list(after)
        assert [record.columns[:7] + record.columns[8:] for record in old] == [
            record.columns[:7] + record.columns[8:] for record in new
        ]
    if htslib_records(vcf) == len(old):
        assert htslib_records(output) == len(old), "htslib reads the input and not the output"


def htslib_records(path: Path) -> int | None:
    """How many records htslib finds in a file; None where it stops at one, or pysam refuses plain gzip."""
    unreadable = suppress(OSError, ValueError, NotImplementedError)
    with quiet_htslib(), unreadable, pysam.VariantFile(str(path)) as records:
        return sum(1 for _ in records)
    return None


def fuzz(seed: int, first: int, count: int, place: Path) -> tuple[Counter[str], list[str]]:
    """Run cases; returns how they ended, and what did not end clean.

    Args:
        seed: with a case's number it makes the case.
        first: the first case's number.
        count: how many cases.
        place: a folder for files.
    """
    model = tiny_model(place / "model")
    ends: Counter[str] = Counter()
    failures = []
    for number in range(first, first + count):
        folder = place / f"case{number}"
        folder.mkdir()
        try:
            end = run_case(random.Random(f"{seed} {number}"), folder, model)
            ends["scores" if end == "scores" else "sentence"] += 1
        except Exception as error:
            failures.append(f"{number}: {type(error).__name__}: {error}")
        shutil.rmtree(folder)
    return ends, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--count", type=int, default=10_000)
    chosen = parser.parse_args()
    faulthandler.enable()
    torch.set_num_threads(1)
    pysam.set_verbosity(0)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        ends, failures = fuzz(chosen.seed, chosen.first, chosen.count, Path(place))
    print(f"{dict(ends)}, {len(failures)} failures, {time.monotonic() - began:.0f} s")
    print("\n".join(failures[:50]))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
