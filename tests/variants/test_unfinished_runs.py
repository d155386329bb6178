"""Runs that are killed, and go on."""

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from full_disk import files_at_most
from variant_files import write_fasta, write_vcf

from genotok.errors import InputError
from genotok.variants.model_desk import ModelDesk
from genotok.variants.score import score_vcf
from genotok.variants.unfinished import open_journal

LETTERS = "".join(random.Random(5).choices("ACGT", k=4000))


def records(number):
    found = []
    for i in range(number):
        place = 40 + i * 3000 // number
        ref = LETTERS[place : place + 1 + 2 * (i % 7 == 3)]
        found.append(("c", place + 1, ref, "ACGT".replace(ref[0], "")[i % 3]))
    return found


@pytest.fixture
def site(tmp_path, model_folder):
    """The arguments of a run of 96 records in blocks of 8; its outputs lie in `out`."""
    fasta = write_fasta(tmp_path / "genome.fa", {"c": LETTERS})
    vcf = write_vcf(tmp_path / "in.vcf", records(96))

    def arguments(folder="out", **options):
        out = tmp_path / folder
        options = {"window": 12, "threads": 1, "batch_size": 1, "parquet": out / "t.parquet"} | options
        return (str(vcf), fasta, model_folder, str(out / "scored.vcf.gz")), options

    return arguments


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


RUN = """
import sys, time
from pathlib import Path
from genotok.variants.score import score_vcf
from genotok.variants.model_desk import ModelDesk
scores = ModelDesk.scores
def slowly(self, windows):
    time.sleep(0.1)
    return scores(self, windows)
ModelDesk.scores = slowly
vcf, fasta, model, out, table, workers = sys.argv[1:]
score_vcf(vcf, Path(fasta), Path(model), out, window=12, threads=1, batch_size=1, parquet=Path(table),
          workers=int(workers), resume=True, command="x")
"""


def start(arguments, options, workers):
    words = [*map(str, arguments), str(options["parquet"]), str(workers)]
    return subprocess.Popen([sys.executable, "-c", RUN, *words], stderr=subprocess.PIPE)


def blocks_noted(journal):
    """How many whole blocks of 16 scores a journal holds."""
    if not journal.exists():
        return 0
    content = journal.read_bytes()
    return max(0, (len(content) - content.find(b"\n") - 21) // (20 + 8 * 16))


@pytest.mark.parametrize(("workers", "ending"), [(0, signal.SIGKILL), (1, signal.SIGTERM)])
def test_a_killed_run_goes_on_and_writes_the_same_bytes(tmp_path, site, monkeypatch, workers, ending):
    positional, options = site("whole")
    score_vcf(*positional, **options, command="x")
    positional, options = site("out")
    journal = tmp_path / "out" / "scored.vcf.gz.unfinished"
    for noted in (2, 5):
        process = start(positional, options, workers)
        until = time.monotonic() + 100
        while blocks_noted(journal) < noted:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(ending)
        process.communicate(timeout=30)
        assert not (tmp_path / "out" / "scored.vcf.gz").exists()
    noted, scored = blocks_noted(journal), []
    scores = ModelDesk.scores
    monkeypatch.setattr(ModelDesk, "scores", lambda desk, windows: scored.append(1) or scores(desk, windows))
    score_vcf(*positional, **options, workers=0, resume=True, command="x")
    assert len(scored) == 12 - noted < 8
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "whole")


@pytest.fixture
def interrupted(site, monkeypatch):
    """Interrupts a run behind its third block; returns its arguments."""

    def run(error=KeyboardInterrupt, **changed):
        positional, options = site(**changed)
        scores, asked = ModelDesk.scores, []

        def until_the_fourth(desk, windows):
            asked.append(windows)
            if len(asked) == 4:
                raise error
            return scores(desk, windows)

        with monkeypatch.context() as patch:
            patch.setattr(ModelDesk, "scores", until_the_fourth)
            with pytest.raises(error):
                score_vcf(*positional, **options)
        return positional, options

    return run


def test_an_interrupted_run_says_how_to_go_on(tmp_path, site, interrupted, capsys):
    hint = "scored.vcf.gz.unfinished: holds what has been scored; go on with the same command and --resume\n"
    positional, options = interrupted()
    assert capsys.readouterr().err.endswith(f"{tmp_path}/out/{hint}")
    score_vcf(*positional, **options, resume=True)
    write_vcf(tmp_path / "in.vcf", [("c", 5, "A", "C"), ("c", "x", "A", "C")])
    with pytest.raises(InputError):
        score_vcf(*positional, **options)
    assert hint not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [({"window": 26}, "window"), ({"strands": "forward"}, "both strands"), ({"batch_size": 2}, "batch size")],
)
def test_another_run_is_not_mixed_in(tmp_path, interrupted, change, named):
    positional, options = interrupted()
    journal = tmp_path / "out" / "scored.vcf.gz.unfinished"
    before = journal.read_bytes()
    with pytest.raises(InputError, match=rf"is of a run with another {named}; resume with what") as caught:
        score_vcf(*positional, **options | change, resume=True)
    assert "\n" not in str(caught.value)
    assert bytes_in(tmp_path / "out") == {journal.name: before}


def test_a_changed_input_is_not_mixed_in(tmp_path, interrupted):
    positional, options = interrupted()
    write_vcf(tmp_path / "in.vcf", records(97))
    with pytest.raises(InputError, match="is of a run with another VCF"):
        score_vcf(*positional, **options, resume=True)


def test_without_resume_everything_is_scored_again(tmp_path, site, interrupted):
    score_vcf(*site("whole")[0], **site("whole")[1])
    positional, options = interrupted()
    score_vcf(*positional, **options | {"batch_size": 2})
    assert sorted(bytes_in(tmp_path / "out")) == sorted(bytes_in(tmp_path / "whole"))
    positional, options = interrupted()
    score_vcf(*positional, **options)
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "whole")


def test_bad_input_leaves_nothing_to_resume(tmp_path, site):
    positional, options = site()
    write_vcf(tmp_path / "in.vcf", [*records(60), ("c", "x", "A", "C")])
    with pytest.raises(InputError, match="POS is 'x'"):
        score_vcf(*positional, **options)
    assert bytes_in(tmp_path / "out") == {}


@pytest.mark.parametrize(("vcf", "output"), [("-", "out.vcf"), ("in.vcf", "-")])
def test_streams_cannot_be_resumed(tmp_path, vcf, output):
    with pytest.raises(InputError, match=r"standard (input|output) cannot .*there is no resuming"):
        score_vcf(vcf, tmp_path / "g.fa", tmp_path, output, resume=True)


def test_a_cut_and_a_damaged_journal_lose_their_last_block_only(tmp_path):
    outputs, scores = [tmp_path / "out.vcf"], [np.arange(5.0), np.arange(3.0)]
    path = tmp_path / "out.vcf.unfinished"
    with suppress(KeyboardInterrupt), open_journal(outputs, {"a": 1}, True) as journal:
        for i, found in enumerate(scores):
            journal.add(i, found, 7)
        raise KeyboardInterrupt
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-24], whole[:-1] + b"\1"):
        path.write_bytes(damaged)
        with suppress(KeyboardInterrupt), open_journal(outputs, {"a": 1}, True) as journal:
            assert (journal.blocks, journal.batch_size) == (1, 7)
            assert journal.scores().tolist() == scores[0].tolist()
            journal.add(1, scores[1], 7)
            raise KeyboardInterrupt
        assert path.read_bytes() == whole


def test_one_output_is_written_by_one_run_at_a_time(tmp_path):
    outputs = [tmp_path / "out.vcf"]
    with open_journal(outputs, {}, False):
        second = open_journal(outputs, {}, True)
        with pytest.raises(InputError, match="another process is writing this output"):
            second.__enter__()
        assert (tmp_path / "out.vcf.unfinished").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_can_be_resumed(tmp_path, site):
    positional, options = site("whole")
    score_vcf(*positional, **options)
    positional, options = site()
    with pytest.raises(InputError, match="cannot be written") as caught, files_at_most(1200):
        score_vcf(*positional, **options)
    assert "\n" not in str(caught.value)
    assert list(bytes_in(tmp_path / "out")) == ["scored.vcf.gz.unfinished"]
    score_vcf(*positional, **options, resume=True)
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "whole")
