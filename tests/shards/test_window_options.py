"""Windows by stride, share of certain letters and intervals, against going letter by letter."""

from types import SimpleNamespace

import numpy as np
import pytest
from fasta_files import CERTAIN, random_letters, sliced, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokenize_genomes import contents, rows

from genotok.errors import InputError
from genotok.genomes import formats
from genotok.genomes.stretches import Stretches, union, without
from genotok.shards import split_writer, windows
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.writer import tokenize_genomes
from genotok.tokenizers import load_tokenizer

ENCODE = load_tokenizer("nucleotide").encode


def bed(path, intervals):
    path.write_text("".join(f"{name}\t{start}\t{end}\tx\n" for name, start, end in intervals))
    return path


def one_by_one(letters, window, stride, percent, included, excluded):
    """(start, letters) of the windows that are to stand there; `included` may be None."""
    counts = [
        (included is None or any(a <= i < b for a, b in included))
        and not any(a <= i < b for a, b in excluded)
        for i in range(len(letters))
    ]
    found, at = [], 0
    while at < len(letters):
        end = at
        while end < len(letters) and counts[end]:
            end += 1
        found += [(at + start, text) for start, text in sliced(letters[at:end], window, stride)]
        at = end + 1
    real = [(start, text, sum(letter in CERTAIN for letter in text)) for start, text in found]
    return [(start, text) for start, text, count in real if count and count * 100 >= percent * len(text)]


@st.composite
def cases(draw):
    """Contigs, options, and the sizes of everything that is done in pieces."""
    contigs = {name: draw(st.text("ACGTNacgnR", max_size=90)) for name in ("a", "b")}
    contigs["z"] = "A"
    window = draw(st.integers(1, 25))

    def intervals():
        places = st.tuples(st.sampled_from("ab"), st.integers(0, 90), st.integers(0, 90))
        drawn = draw(st.lists(places, max_size=6))
        cut = [
            (name, *sorted((min(x, len(contigs[name])), min(y, len(contigs[name]))))) for name, x, y in drawn
        ]
        return [("z", 0, 1), *cut]  # so that no file is empty, and none of its contigs absent

    return SimpleNamespace(
        contigs=contigs,
        window=window,
        stride=draw(st.integers(1, window)),
        percent=draw(st.sampled_from([0, 10, 55, 70, 99, 100])),
        include=None if draw(st.booleans()) else intervals(),
        exclude=intervals()[1:],
        block=draw(st.integers(1, 200)),
        run=draw(st.sampled_from([1, 30, 1 << 20])),
        batch=draw(st.sampled_from([1, 40, 1 << 20])),
        file=draw(st.sampled_from([50, 1 << 28])),
    )


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_windows_are_those_of_going_letter_by_letter(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("w")
    fasta = write(folder / "g.fa", case.contigs, width=11)
    include = None if case.include is None else bed(folder / "in.bed", case.include)
    exclude = bed(folder / "ex.bed", case.exclude) if case.exclude else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "BLOCK", case.block)
        patch.setattr(windows, "LETTERS_A_RUN", case.run)
        patch.setattr(split_writer, "LETTERS_A_BATCH", case.batch)
        patch.setattr(split_writer, "LETTERS_A_FILE", case.file)
        made = tokenize_genomes(
            [fasta],
            folder / "out",
            window=case.window,
            stride=case.stride,
            min_real=case.percent / 100,
            include=include,
            exclude=exclude,
        )
    wanted = []
    for name, letters in case.contigs.items():
        included, excluded = (
            None if chosen is None else [(a, b) for contig, a, b in chosen if contig == name]
            for chosen in (case.include, case.exclude)
        )
        kept = one_by_one(letters, case.window, case.stride, case.percent, included, excluded)
        every = one_by_one(letters, case.window, case.stride, 0, included, excluded)
        contig = next(contig for contig in made.contigs if contig.name == name)
        assert (contig.length, contig.windows) == (len(letters), len(kept))
        assert contig.dropped_windows >= len(every) - len(kept)
        wanted += [(name, *place) for place in kept]
    found = rows(folder / "out")
    assert [(row["contig"], row["start"], row["ids"]) for row in found] == [
        (name, start, ENCODE(text.upper())) for name, start, text in wanted
    ]
    for row, (*_, text) in zip(found, wanted, strict=True):
        assert row["ambiguous"] == [letter not in CERTAIN for letter in text]
        assert row["soft_masked"] == [letter.islower() for letter in text]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted), max_size=8))
def test_unions(intervals):
    intervals = np.array(intervals, np.int64).reshape(-1, 2)
    held = np.zeros(50, bool)
    for start, end in intervals:
        held[start:end] = True
    for found, letters in ((union(intervals), held), (without(union(intervals)), ~held)):
        again = np.zeros(50, bool)
        for start, end in found:
            assert not again[start:end].any()
            again[start:end] = True
        assert (again == letters).all()
        assert (found[1:, 0] > found[:-1, 1]).all()


@pytest.mark.parametrize(("share", "kept"), [(0.54, 2), (0.55, 2), (0.551, 1), (1, 1)])
def test_a_share_is_exact(share, kept, tmp_path):
    """0.55 x 100 is more than 55 in binary fractions."""
    fasta = write(tmp_path / "g.fa", {"a": "A" * 55 + "N" * 45 + "C" * 100})
    assert tokenize_genomes([fasta], tmp_path / "out", window=100, min_real=share).contigs[0].windows == kept


def test_the_manifest_says_what_was_left_out(tmp_path):
    fasta = write(tmp_path / "g.fa", {"chr1": random_letters(100), "2": random_letters(50)})
    exclude = bed(tmp_path / "ex.bed", [("1", 10, 20)])
    made = tokenize_genomes([fasta], tmp_path / "out", window=30, exclude=exclude, min_real=0.5)
    assert made.windowing["min_real"] == 0.5
    assert made.windowing["include"] == []
    assert [set(file) for file in made.windowing["exclude"]] == [{"file", "sha256"}]
    assert read_manifest(tmp_path / "out")[1] == made
    assert [row["start"] for row in rows(tmp_path / "out")] == [0, 20, 50, 80, 0, 30]
    assert "windowing" not in tokenize_genomes([fasta], tmp_path / "all", window=30).to_json()


def test_merging_folders_with_intervals_of_their_own(tmp_path):
    folders = []
    for name in "gh":
        fasta = write(tmp_path / f"{name}.fa", {"a": random_letters(50)})
        exclude = bed(tmp_path / f"{name}.bed", [("a", 0, ord(name) - 100)])
        folders.append(tmp_path / name)
        tokenize_genomes([fasta], folders[-1], window=10, exclude=exclude)
    tokenize_genomes([write(tmp_path / "i.fa", {"a": "ACGT"})], tmp_path / "i", window=10)
    merged = merge_manifests([*folders, tmp_path / "i"], tmp_path / "all")
    assert [file["file"] for file in merged.windowing["exclude"]] == ["g.bed", "h.bed"]
    tokenize_genomes([tmp_path / "i.fa"], tmp_path / "i", window=10, min_real=0.5)
    with pytest.raises(InputError, match=r"i: min_real is 0.5 and that of the shards before it 0;"):
        merge_manifests([*folders, tmp_path / "i"], tmp_path / "all")


def test_contigs_that_are_not_there_are_said(tmp_path, capsys):
    fasta = write(tmp_path / "g.fa", {"a": "ACGT"})
    tokenize_genomes([fasta], tmp_path / "out", exclude=bed(tmp_path / "x.bed", [("a", 0, 1), ("q", 0, 9)]))
    assert "x.bed: 1 of its contigs are not in the genomes: q\n" in capsys.readouterr().err


REFUSED = [
    ("x.bed", "a\t0\t9\n", "the interval 1-9 of a lies behind the contig's end, which has 8 letters here"),
    ("x.bed", "q\t0\t9\n", "none of its contigs (q) is in the genomes"),
    ("x.bed", "b\t0\t1\n", "the contig b is in both genomes g and h; tokenize each with a file of its own"),
    ("x.bed", "a\t5\t4\n", "line 1: the interval ends at 4, before it starts at 5"),
    ("x.bed", "", "holds no intervals"),
    ("x.gff", "a\tx\tgene\t1\t2\t.\t.\t.\t.\n", "the name should end in .bed or .bed.gz"),
    ("x.bed", "a\t0\t8\nc\t0\t4\n", "none of the windows that the options leave has a certain nucleotide"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), REFUSED, ids=[sentence for *_, sentence in REFUSED])
def test_bad_files_of_intervals(name, text, sentence, tmp_path):
    both = "b" if "both genomes" in sentence else "c"
    fastas = [write(tmp_path / "g.fa", {"a": "ACGTACGT", "b": "N"}), write(tmp_path / "h.fa", {both: "ACGT"})]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        tokenize_genomes(fastas, tmp_path / "out", exclude=tmp_path / name)
    assert sentence in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.fa", "h.fa", name]


def test_intervals_of_many_short_runs(tmp_path):
    """What lies between is read block by block, whatever the blocks' borders."""
    letters = random_letters(300_000, 3)
    starts = np.arange(0, 299_000, 70)
    exclude = bed(tmp_path / "x.bed", [("a", start, start + 13) for start in starts])
    fasta = write(tmp_path / "g.fa", {"a": letters}, width=60)
    tokenize_genomes([fasta], tmp_path / "out", window=50, exclude=exclude)
    held = np.ones(300_000, bool)
    for start in starts:
        held[start : start + 13] = False
    found = np.zeros(300_000, bool)
    for row in rows(tmp_path / "out"):
        span = slice(row["start"], row["start"] + len(row["ids"]))
        assert not found[span].any()
        found[span] = True
    assert (found == held).all()
    assert Stretches(None, exclude).of("g", "b").tolist() == [[0, windows.ENDLESS]]
    assert "train-00000.arrow" in contents(tmp_path / "out")
