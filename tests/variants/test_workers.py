"""Processes that help: the same output, whole or none, and nobody left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import write_fasta, write_vcf

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.variants.judge import Judge
from genotok.variants.processes import Child, LostProcess
from genotok.variants.score import score_vcf
from genotok.variants.snv_windows import snv_windows
from genotok.variants.vcf_input import Record

LETTERS = "".join(random.Random(5).choices("ACGT", k=1500))


def mixed_records(number=40):
    """Records of all kinds, some of them in front of each other and on a contig that is not there."""
    alts = ("A,C,G,T", "T", "<DEL>", "GTT", ".", "N", "C")
    found = [
        ("c", 1 + 24 * i, LETTERS[24 * i : 24 * i + 1 + (i % 5 == 4)], alts[i % 7]) for i in range(number)
    ]
    return [*found, ("x", 5, "A", "C"), ("c", 3, LETTERS[2], "G"), ("c", 9, "N", "G")]


@pytest.fixture
def files(tmp_path, model_folder):
    """The positional arguments of a run, and its options."""
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS})
    vcf = write_vcf(tmp_path / "in.vcf", mixed_records())
    options = {"window": 12, "threads": 1, "batch_size": 1, "command": "x"}
    return (str(vcf), fasta, model_folder, str(tmp_path / "out" / "o.vcf.gz")), options


def test_the_output_does_not_depend_on_workers_and_model_processes(tmp_path, files, capsys):
    (vcf, fasta, model, _), options = files
    seen, said = [], []
    for i, (workers, device) in enumerate([(0, "cpu"), (2, "cpu"), (1, "cpu,cpu")]):
        out = tmp_path / str(i)
        options |= {"workers": workers, "device": device, "parquet": out / "t.parquet"}
        score_vcf(vcf, fasta, model, str(out / "o.vcf.gz"), **options)
        seen.append({path.name: path.read_bytes() for path in out.iterdir()})
        said.append([line for line in capsys.readouterr().err.splitlines() if " contig " in line])
    assert sorted(seen[0]) == ["o.vcf.gz", "t.parquet"]  # unsorted: no index
    assert seen[0] == seen[1] == seen[2]
    assert (
        said[0]
        == said[1]
        == said[2]
        == [
            f"score: {fasta} has no contig x, but c; where these are other names of the same, see --contig-aliases"
        ]
    )


@pytest.mark.parametrize(
    ("options", "line", "sentence"),
    [
        ({}, "c\t7", "line 46: has 2 columns"),
        ({"ref_mismatch": "error"}, "c\t30\t.\tNN\tA\t.\t.\t.", "x:5|c:9|c:30"),
    ],
)
def test_what_workers_refuse_is_one_sentence(tmp_path, files, options, line, sentence):
    positional, others = files
    write_vcf(tmp_path / "in.vcf", [*mixed_records(), line])
    with pytest.raises(InputError, match=sentence) as caught:
        score_vcf(*positional, **others, **options, workers=1)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


RUN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import sys
from pathlib import Path
from genotok.cli import main
from genotok.variants.model_desk import ModelDesk
import time
scores = ModelDesk.scores
ModelDesk.scores = lambda self, windows: (time.sleep(0.2), scores(self, windows))[1]
main()
"""


def children_of(pid):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[1] == str(pid):
                found.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("whom", "number", "code", "words"),
    [
        ("worker", signal.SIGKILL, 2, "was ended by SIGKILL; was there too little memory?"),
        ("parent", signal.SIGKILL, -signal.SIGKILL, ""),
        ("parent", signal.SIGTERM, 128 + signal.SIGTERM, ""),
        ("parent", signal.SIGINT, 130, ""),
    ],
)
def test_signals_end_everything(tmp_path, files, whom, number, code, words):
    (vcf, fasta, model, output), _ = files
    command = [sys.executable, "-c", RUN, "score", vcf, "-r", str(fasta), "-m", str(model), "-o", output]
    command += ["--window", "12", "--threads", "1", "--batch-size", "1", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = Path(f"{output}.unfinished")
    until = time.monotonic() + 60
    while not journal.exists() or journal.stat().st_size < 900:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    workers = children_of(process.pid)
    assert len(workers) == 2
    os.kill(workers[0] if whom == "worker" else process.pid, number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert "Traceback" not in said
    assert words in said
    until = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_alive, workers))
    left = {path.name for path in Path(output).parent.iterdir()}
    assert "o.vcf.gz" not in left
    assert (number == signal.SIGKILL and whom == "parent") or left == {"o.vcf.gz.unfinished"}


def test_a_child_that_fails_says_so_in_one_sentence():
    for factory, arguments, words in [
        (bytes.fromhex, ("x",), "a helper failed: ValueError: non-hexadecimal"),
        (list, (), "a helper failed: AttributeError: 'list' object has no attribute 'absent'"),
    ]:
        child = Child("a helper", factory, *arguments)
        with pytest.raises(LostProcess, match=words):
            child.submit("absent").result(timeout=30)
        child.close()
        assert not is_alive(child.pid)


@given(st.integers(2, 30), st.booleans(), st.none() | st.integers(0, 12), st.randoms(use_true_random=False))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_windows_of_many_variants_are_those_of_each(tmp_path_factory, window, both, horizon, drawn):
    folder = tmp_path_factory.mktemp("snv")
    contigs = {name: "".join(drawn.choices("ACGTNacgu", k=drawn.randint(1, 90))) for name in "cd"}
    reference = Reference(write_fasta(folder / "g.fa", contigs))
    judge = Judge(reference, window, both, "skip", {}, horizon)
    records = []
    for _ in range(30):
        name, position = drawn.choice("cde"), drawn.randint(0, 95)
        here = contigs.get(name, "A")[position - 1 : position] or "A"
        ref = here if drawn.random() < 0.8 else drawn.choice("ACGTN")
        alt = drawn.choice(
            ["A", "c", "G", "t", "U", "N", "*", ".", "AC", "A,C", "c,G,t", "A,,", "A,*", "T,U"]
        )
        records.append(Record(f"{name}\t{position}\t.\t{ref}\t{alt}\t.\t.\t.".encode()))
    found = snv_windows(records, judge)
    assert found.chosen.tolist() == sorted(set(found.chosen.tolist()))
    assert len(found.chosen) == len(found.alleles)
    cut = found.cut()
    middle, alleles = window // 2, zip(found.site.tolist(), found.alt.tolist(), strict=True)
    full = window if horizon is None else min(window, middle + 1 + horizon)
    for i, record in enumerate(records):
        verdicts = judge.judge(record)
        pairs = [pair for verdict in verdicts for pair in verdict.pairs]
        plain = len(record.ref) == 1 and {len(alt) for alt in record.alts} == {1}
        plain = plain and all(verdict.pairs for verdict in verdicts)
        plain = plain and all(pair.ref != pair.alt for pair in pairs)
        plain = plain and all(pair.shared == middle and len(pair.ref) == full for pair in pairs)
        assert (i in found.chosen) == plain
        if plain:
            assert found.alleles[found.chosen.tolist().index(i)] == len(record.alts)
            of_record = [next(alleles) for _ in record.alts]
            windows = [
                (row.tobytes(), alt) for site, alts in of_record
                for row, alt in zip(cut[site], alts, strict=True)
            ]  # fmt: skip
            assert [ref for ref, _ in windows] == [pair.ref for pair in pairs]
            changed = [ref[:middle] + bytes([alt]) + ref[middle + 1 :] for ref, alt in windows]
            assert changed == [pair.alt for pair in pairs]
            assert found.shared == middle
    assert next(alleles, None) is None


MEMORY = """
import sys
from pathlib import Path
from genotok.variants.blocks import Desk, Task
from genotok.variants.plans import PlanTask
from genotok.variants.vcf_input import Block
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
task = Task("x", 8, Path(sys.argv[1]), 512, True, "skip", {}, None, None, 0, "skip", False)
desk = Desk(task, PlanTask("nucleotide", "prefixes"))
before = peak()
for block in range(40):
    lines = [f"c\\t{1 + (block * 500 + i) * 12_000}\\t.\\tA\\tC\\t.\\t.\\t.\\n" for i in range(500)]
    assert len(desk.prepare(block, Block(1, "".join(lines).encode()))) > 900
    desk._waiting.clear()
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_worker_does_not_hold_the_contig(tmp_path):
    fasta = tmp_path / "g.fa"
    length = 250_000_000
    with open(fasta, "wb") as sink:
        sink.write(b">c\n")
        for _ in range(250):
            sink.write(b"A" * 1_000_000)
        sink.write(b"\n")
    (tmp_path / "g.fa.fai").write_text(f"c\t{length}\t3\t{length}\t{length + 1}\n")
    command = [sys.executable, "-c", MEMORY, str(fasta)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(found.stdout) < 40_000  # kB


def test_a_score_that_is_no_number_is_named(files):
    from genotok.variants.blocks import Desk, Task
    from genotok.variants.plans import PlanTask
    from genotok.variants.vcf_input import Block

    (_, fasta, _, _), _ = files
    task = Task("x", 8, fasta, 12, True, "skip", {}, None, None, 0, "skip", False)
    desk = Desk(task, PlanTask("nucleotide", "prefixes"))
    alt = "C" if LETTERS[99] != "C" else "G"
    plan = desk.prepare(0, Block(1, f"c\t100\t.\t{LETTERS[99]}\t{alt}\t.\t.\t.\n".encode()))
    assert len(plan) == 2
    with pytest.raises(InputError, match="c:100: the model's likelihood there is no number"):
        desk.finish(0, np.array([0.0, np.nan]))
