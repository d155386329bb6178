"""Windows and scores on the phased haplotypes of a sample."""

import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import NamedTuple

import pysam
import pytest
from haplotype_oracle import leftmost_difference, log_likelihood, reverse_complement
from hypothesis import given, settings
from hypothesis import strategies as st
from variant_files import write_fasta

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.variants.haplotypes import HAPLOTYPE_STATUSES, Phaser, sample_column
from genotok.variants.judge import Judge
from genotok.variants.letters import EditedStrand
from genotok.variants.score import score_vcf
from genotok.variants.vcf_input import open_vcf

COLUMNS = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tother\tme\n"
CLOSE = {"rel": 1e-4, "abs": 2e-4}


class Change(NamedTuple):
    """What one variant does, said without a VCF: letter `at` becomes `letters`, or letters behind it go or come."""

    kind: str
    at: int
    letters: str
    removed: int
    genotype: str

    def touched(self) -> set:
        """The letters and the gaps behind letters that are not to be touched twice."""
        if self.kind == "substitution":
            return {("letter", self.at)}
        if self.kind == "insertion":
            return {("gap", self.at)}
        inside = range(self.at + 1, self.at + 1 + self.removed)
        return {("letter", i) for i in inside} | {("gap", i) for i in inside[:-1]}

    def record(self, contig: str) -> tuple[int, str, str]:
        """POS, REF, ALT."""
        here = contig[self.at]
        if self.kind == "substitution":
            return self.at + 1, here, self.letters
        if self.kind == "insertion":
            return self.at + 1, here, here + self.letters
        return self.at + 1, contig[self.at : self.at + 1 + self.removed], here

    def line(self, contig: str) -> str:
        pos, ref, alt = self.record(contig)
        return f"c\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t0|0\t{self.genotype}"


def haplotype(contig: str, changes: list[Change]) -> str:
    """A contig with all changes made, letter by letter: each letter with what has come behind it."""
    cells = [[letter, ""] for letter in contig]
    for change in changes:
        if change.kind == "substitution":
            cells[change.at][0] = change.letters
        elif change.kind == "insertion":
            cells[change.at][1] = change.letters
        else:
            for i in range(change.at + 1, change.at + 1 + change.removed):
                cells[i][0] = ""
    return "".join(letter + behind for letter, behind in cells)


def windows(ref: str, alt: str, window: int) -> tuple[bytes, bytes, int]:
    """REF and ALT windows of two sequences, and how many letters stand in front of what differs."""
    start, _, _ = leftmost_difference(ref, alt)
    left = max(0, start - window // 2)
    return ref[left : left + window].encode(), alt[left : left + window].encode(), start - left


@st.composite
def samples(draw, contigs, longest_deletion):
    """A contig and changes on it that do not touch each other where one haplotype carries both."""
    contig = draw(contigs)
    letters = sorted(set(contig))
    accepted: list[Change] = []
    for _ in range(draw(st.integers(1, 7))):
        at = draw(st.integers(0, len(contig) - 2))
        kind = draw(st.sampled_from(["substitution", "insertion", "deletion"]))
        other = draw(st.sampled_from([x for x in "ACGT" if x != contig[at]]))
        new = other if kind == "substitution" else draw(st.text(letters, min_size=1, max_size=3))
        removed = draw(st.integers(1, min(longest_deletion, len(contig) - 1 - at)))
        change = Change(kind, at, new, removed, draw(st.sampled_from(["0|1", "1|0", "1|1", "1/1"])))
        sides = [i for i in (0, 2) if change.genotype[i] == "1"]
        taken = {x for c in accepted if any(c.genotype[i] == "1" for i in sides) for x in c.touched()}
        if not change.touched() & taken:
            accepted.append(change)
    return contig, sorted(accepted, key=lambda change: change.at)


def judged(contig: str, lines: list[str], window: int, unphased: str = "skip", **cut):
    """The carried alleles of each record."""
    with tempfile.TemporaryDirectory() as folder:
        fasta = write_fasta(Path(folder) / "g.fa", {"c": contig})
        vcf = Path(folder) / "in.vcf"
        vcf.write_text(COLUMNS + "".join(line + "\n" for line in lines))
        with Reference(fasta) as reference, open_vcf(vcf) as source:
            cut = {"both_strands": True} | cut
            judge = Judge(reference, window, ref_mismatch="skip", aliases={}, **cut)
            phaser = Phaser(judge, "me", sample_column("me", source.header.samples), unphased)
            return [
                phaser.judge_alleles(record, [verdict.status for verdict in judge.judge(record)])
                for record in phaser.phased(source)
            ]


def check_windows(contig: str, changes: list[Change], window: int) -> None:
    found = judged(contig, [change.line(contig) for change in changes], window)
    for number, (change, (allele,)) in enumerate(zip(changes, found, strict=True)):
        if allele.status == "too_long":
            continue
        assert allele.status == "ok"
        for side, pairs in zip((0, 2), allele.haplotypes, strict=True):
            if change.genotype[side] == "0":
                assert pairs == []
                continue
            others = [c for i, c in enumerate(changes) if i != number and c.genotype[side] == "1"]
            ref, alt = haplotype(contig, others), haplotype(contig, [*others, change])
            if ref == alt:  # an insertion of what a deletion takes away next to it
                continue
            assert tuple(pairs[0][:3]) == windows(ref, alt, window)
            assert tuple(pairs[1][:3]) == windows(reverse_complement(ref), reverse_complement(alt), window)


short = st.text("AC", min_size=3, max_size=36) | st.text("ACGT", min_size=3, max_size=36)
# Longer than two windows, so that repeats must not be as long.
long = st.integers(0, 1000).map(lambda seed: "".join(Random(seed).choices("ACGT", k=100 + seed // 10)))


@given(samples(short, 5), st.integers(20, 40))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_windows_are_those_of_the_whole_haplotypes(sample, window):
    check_windows(*sample, window)


@given(samples(long, 40), st.integers(8, 14))
@settings(max_examples=80, derandomize=True, deadline=None)
def test_deleted_letters_do_not_bring_the_ends_of_windows_nearer(sample, window):
    check_windows(*sample, window)


@given(samples(long, 4), st.integers(10, 16))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_windows_are_full_away_from_the_ends_of_the_contig(sample, window):
    contig, changes = sample
    padded = "CATG" * 12 + contig + "TGCA" * 12
    moved = [change._replace(at=change.at + 48) for change in changes]
    for (allele,) in judged(padded, [change.line(padded) for change in moved], window):
        for pairs in allele.haplotypes:
            assert all(len(pair.ref) == len(pair.alt) == window for pair in pairs)


@given(st.data())
@settings(max_examples=100, derandomize=True, deadline=None)
def test_a_strand_with_edits(data):
    class Contig:
        sequence = data.draw(st.text("ACGT", min_size=1, max_size=20)).encode()
        length = len(sequence)

        def fetch(self, start, end):
            return self.sequence[start:end]

    cuts = sorted(data.draw(st.lists(st.integers(0, Contig.length), max_size=6)))
    edits, expected, places, last = [], b"", [], 0
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        new = data.draw(st.text("acgt", max_size=3)).encode()
        edits.append((start, Contig.sequence[start:end], new))
        expected += Contig.sequence[last:start] + new
        places += [*range(last, start), *[start] * len(new)]
        last = end
    expected += Contig.sequence[last:]
    places += range(last, Contig.length + 1)
    strand = EditedStrand(Contig(), edits)
    assert strand.length == len(expected)
    for start in range(-2, len(expected) + 2):
        for end in range(start - 1, len(expected) + 3):
            assert strand.fetch(start, end) == expected[max(start, 0) : max(end, 0)]
    assert [strand.before_edits(place) for place in range(len(expected) + 1)] == places


CONTIG = "ACGTTGCAATCGGATCTTACGGATACCAGT" * 10


def statuses(*records: tuple, window: int = 20, unphased: str = "skip") -> list[str]:
    """The statuses of records (POS, ALT, FORMAT, sample, and INFO if any) with one letter as REF."""
    lines = []
    for pos, alt, keys, value, *info in records:
        ref = CONTIG[pos - 1]
        lines.append(f"c\t{pos}\t.\t{ref}\t{alt}\t.\t.\t{info[0] if info else '.'}\t{keys}\t.\t{value}")
    return [
        ",".join(allele.status for allele in alleles) for alleles in judged(CONTIG, lines, window, unphased)
    ]


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("0|1", "ok"),
        ("1/1", "ok"),
        ("1", "ok"),
        (".|1", "ok"),
        ("0/1", "unphased"),
        ("./1", "unphased"),
        ("0|0", "not_carried"),
        ("0/0", "not_carried"),
        ("./.", "not_carried"),
        (".", "not_carried"),
    ],
)
def test_the_own_genotype(value, status):
    assert statuses((101, "T", "GT", value)) == [status]


@pytest.mark.parametrize(
    ("own", "neighbour", "status"),
    [
        ("0|1", "1|0", "ok"),
        ("0|1", "0/1", "unphased_neighbour"),
        ("0|1", "1/1", "ok"),
        ("0|1", "0/0", "ok"),
        ("0|1", "./.", "ok"),
        ("0|1", "./1", "unphased_neighbour"),
        ("0|1", "1", "unphased_neighbour"),
        ("1", "1", "ok"),
        ("1", "0|1", "unphased_neighbour"),
        ("1/1", "0|1", "ok"),
        ("0|1:7", "0|1:7", "ok"),
        ("0|1:7", "0|1:8", "unphased_neighbour"),
        ("0|1:7", "0|1", "unphased_neighbour"),
        ("0|1:.", "0|1", "ok"),
        ("0|1:7", "1|1:8", "ok"),
        ("1|1", "0|1:8", "ok"),
        ("1|1:7", "0|1:8", "unphased_neighbour"),
    ],
)
@pytest.mark.parametrize("pos", [95, 107])
def test_what_is_known_of_a_neighbour(own, neighbour, status, pos):
    found = statuses(*sorted([(101, "T", "GT:PS", own), (pos, "C", "GT:PS", neighbour)]))
    assert found[0 if pos > 101 else 1] == status


def test_a_homozygous_record_takes_part_in_the_nearest_phase_set():
    near, far = (103, "G", "GT:PS", "0|1:5"), (108, "T", "GT:PS", "0|1:9")
    assert statuses((101, "T", "GT", "1/1"), near, far)[0] == "unphased_neighbour"
    assert statuses((101, "T", "GT", "1/1"), near, (*far[:3], "0|1:5"))[0] == "ok"


def test_neighbours_count_within_the_windows_alone():
    own = (101, "T", "GT", "0|1")
    for distance, status in [(9, "unphased_neighbour"), (12, "ok")]:
        assert statuses((101 - distance, "C", "GT", "0/1"), own)[1] == status
        assert statuses(own, (101 + distance, "C", "GT", "0/1"))[0] == status


@pytest.mark.parametrize(
    ("pos", "cut", "status"),
    [
        (104, {}, "unphased_neighbour"),
        (106, {}, "unphased_neighbour"),
        (104, {"horizon": 3}, "unphased_neighbour"),
        (106, {"horizon": 3}, "ok"),
    ],
)
def test_neighbours_behind_the_horizon_do_not_count(pos, cut, status):
    lines = [
        f"c\t{at}\t.\t{CONTIG[at - 1]}\tT\t.\t.\t.\tGT\t.\t{genotype}"
        for at, genotype in [(101, "0|1"), (pos, "0/1")]
    ]
    assert judged(CONTIG, lines, 20, both_strands=False, **cut)[0][0].status == status


@pytest.mark.parametrize(
    "neighbour",
    [
        (95, "<DEL>", "GT", "0|1", "END=97"),
        (40, "<DEL>", "GT", "0|1", "END=97"),
        (95, "N", "GT", "0|1"),
        (101, "AA", "GT", "0|1"),
    ],
)
def test_neighbours_that_cannot_be_applied(neighbour):
    assert statuses(neighbour, (101, "T", "GT", "0|1"))[1] == "skipped_neighbour"
    other = (*neighbour[:3], "1|0", *neighbour[4:])
    assert statuses(other, (101, "T", "GT", "0|1"))[1] == "ok"


def test_of_two_neighbours_that_overlap_the_first_counts():
    own = Change("substitution", 100, "T", 0, "1|1")
    first = Change("deletion", 92, "", 4, "1|1")
    inside = f"c\t95\t.\t{CONTIG[94]}\tG\t.\t.\t.\tGT\t.\t1|1"
    found = judged(CONTIG, [first.line(CONTIG), inside, own.line(CONTIG)], 24)[2][0]
    assert found.status == "skipped_neighbour"
    expected = windows(haplotype(CONTIG, [first]), haplotype(CONTIG, [first, own]), 24)
    assert tuple(found.haplotypes[0][0][:3]) == expected


def test_a_starred_allele_changes_nothing_but_its_deletion_does():
    deletion = f"c\t99\t.\t{CONTIG[98:103]}\t{CONTIG[98]}\t.\t.\t.\tGT\t.\t0|1"
    snv = f"c\t101\t.\t{CONTIG[100]}\tT,*\t.\t.\t.\tGT\t.\t1|2"
    (removed,), (substituted, starred) = judged(CONTIG, [deletion, snv], 20)
    assert (removed.status, substituted.status, starred.status) == ("ok", "ok", "symbolic")
    assert [len(pairs) for pairs in removed.haplotypes] == [0, 2]
    assert [len(pairs) for pairs in substituted.haplotypes] == [2, 0]


def test_statuses_are_those_of_the_list():
    seen = {
        *statuses(
            (95, "C", "GT", "0/1"), (101, "T", "GT", "0|1"), (140, "C", "GT", "0|0"), (180, "C", "GT", "1")
        ),
        *statuses((101, "AA", "GT", "0|1"), (101, "T", "GT", "0|1")),
    }
    assert seen == set(HAPLOTYPE_STATUSES)


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([(101, "T", "GT", "0/1")], "c:101: the genotype of me is heterozygous and unphased"),
        ([(95, "C", "GT", "0/1"), (101, "T", "GT", "0|1")], "c:95: the genotype of me is heterozygous"),
        (
            [(101, "T", "GT:PS", "0|1:3"), (107, "C", "GT:PS", "0|1:4")],
            "c:101: the genotype of me is next to one",
        ),
    ],
)
def test_unknown_phases_are_an_error_on_request(records, sentence):
    with pytest.raises(InputError) as caught:
        statuses(*records, unphased="error")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([(101, "T", "GT", "0|1"), (95, "C", "GT", "0|1")], "c:95: stands behind position 101; sort the VCF"),
        ([(101, "T", "GT", "0|2")], "c:101: the genotype of me has more than two alleles, or one that"),
        ([(101, "T", "GT", "0|0|1")], "c:101: the genotype of me has more than two alleles"),
        ([(101, "T", "GT", "A|1")], "c:101: the genotype of me is 'A|1', which is none"),
    ],
)
def test_what_cannot_be_phased(records, sentence):
    with pytest.raises(InputError) as caught:
        statuses(*records)
    assert str(caught.value).startswith(sentence)


def test_a_contig_in_two_pieces_is_refused():
    lines = [f"{name}\t1\t.\tA\tC\t.\t.\t.\tGT\t.\t0|1" for name in ("c", "d", "c")]
    with pytest.raises(InputError, match="c: its records are not in one piece"):
        judged(CONTIG, lines, 20)


@pytest.fixture
def scored(tmp_path, model_folder):
    """Scores lines on CONTIG; gives each record's INFO."""

    def run(*lines: str, haplotypes: str = "me", **options) -> list[dict]:
        fasta = write_fasta(tmp_path / "g.fa", {"c": CONTIG})
        vcf, output = tmp_path / "in.vcf", tmp_path / "out.vcf"
        vcf.write_text(COLUMNS + "".join(line + "\n" for line in lines))
        settings = {"window": 32, "threads": 1, "haplotypes": haplotypes} | options
        score_vcf(str(vcf), fasta, model_folder, str(output), **settings)
        with pysam.VariantFile(str(output)) as found:
            run.header = str(found.header)
            return [dict(record.info) for record in found]

    return run


def ratio(model, ref: str, alt: str, window: int) -> float:
    """The mean of both strands' ratios of two whole sequences."""
    strands = [(ref, alt), (reverse_complement(ref), reverse_complement(alt))]
    pairs = [windows(*strand, window)[:2] for strand in strands]
    return sum(log_likelihood(model, b.decode()) - log_likelihood(model, a.decode()) for a, b in pairs) / 2


def test_scores_are_those_of_the_haplotypes(model, scored):
    changes = [
        Change("insertion", 92, "TTG", 0, "1|0"),
        Change("substitution", 100, "T", 0, "1|1"),
        Change("deletion", 104, "", 3, "0|1"),
    ]
    found = scored(*[change.line(CONTIG) for change in changes])
    for number, (change, info) in enumerate(zip(changes, found, strict=True)):
        assert info["GENOTOK_HAPLOTYPE_STATUS"] == ("ok",)
        plain = ratio(model, CONTIG, haplotype(CONTIG, [change]), 32)
        assert info["GENOTOK_LLR"][0] == pytest.approx(plain, **CLOSE)
        for side, name in ((0, "GENOTOK_LLR_H1"), (2, "GENOTOK_LLR_H2")):
            if change.genotype[side] == "0":
                assert info[name] == (None,)
                continue
            others = [c for i, c in enumerate(changes) if i != number and c.genotype[side] == "1"]
            ref, alt = haplotype(CONTIG, others), haplotype(CONTIG, [*others, change])
            expected = ratio(model, ref, alt, 32)
            assert info[name][0] == pytest.approx(expected, **CLOSE)
            assert abs(expected - plain) > 1e-2  # the neighbours make a difference


def test_without_neighbours_the_score_is_the_plain_one(scored):
    lines = [
        f"c\t{pos}\t.\t{CONTIG[pos - 1]}\t{alts}\t.\t.\t.\tGT\t.\t{genotype}"
        for pos, alts, genotype in [(50, "GA,T", "2|1"), (120, "TT", "1/1"), (200, "G", "1")]
    ]
    two, both, one = scored(*lines)
    assert two["GENOTOK_LLR_H1"] == (None, two["GENOTOK_LLR"][1])
    assert two["GENOTOK_LLR_H2"] == (two["GENOTOK_LLR"][0], None)
    assert both["GENOTOK_LLR_H1"] == both["GENOTOK_LLR_H2"] == both["GENOTOK_LLR"]
    assert one["GENOTOK_LLR_H1"] == one["GENOTOK_LLR"]
    assert one["GENOTOK_LLR_H2"] == (None,)


def test_worker_processes_and_blocks_make_no_difference(scored, monkeypatch, capsys):
    lines = [
        f"c\t{pos}\t.\t{CONTIG[pos - 1]}\t{'G' if CONTIG[pos - 1] != 'G' else 'A'}\t.\t.\t.\tGT\t.\t{genotype}"
        for pos, genotype in zip(range(40, 100, 5), ["0|1", "1|0", "1|1", "0/1"] * 3, strict=True)
    ]
    alone = scored(*lines)
    monkeypatch.setattr("genotok.variants.score.BLOCK_BYTES", 1)
    found = scored(*lines, workers=1)
    assert len(found) == len(alone) == 12
    for info, expected in zip(found, alone, strict=True):
        assert info.keys() == expected.keys()
        for name, values in expected.items():
            for value, other in zip(info[name], values, strict=True):
                assert value == (pytest.approx(other, **CLOSE) if isinstance(other, float) else other)
    statuses = Counter(info["GENOTOK_HAPLOTYPE_STATUS"][0] for info in alone)
    said = [line for line in capsys.readouterr().err.splitlines() if "on the haplotypes" in line]
    counted = f"unphased {statuses['unphased']}, unphased_neighbour {statuses['unphased_neighbour']}"
    assert said == [f"score: on the haplotypes of me: {counted}"] * 2


def test_the_header_names_the_sample_and_scoring_again_replaces_the_fields(scored, tmp_path, model_folder):
    scored(f"c\t50\t.\t{CONTIG[49]}\tG\t.\t.\t.\tGT\t.\t0|1")
    assert "on haplotype 2 of sample me, " in scored.header
    again = tmp_path / "again.vcf"
    score_vcf(str(tmp_path / "out.vcf"), tmp_path / "g.fa", model_folder, str(again), window=32, threads=1)
    assert "_H1" not in again.read_text()
    assert "GENOTOK_HAPLOTYPE_STATUS" not in again.read_text()


def test_an_unknown_sample_is_refused(scored):
    with pytest.raises(InputError, match="the VCF has no sample you; it has other, me"):
        scored(haplotypes="you")
    with pytest.raises(InputError, match="unphased: is 'guess'"):
        scored(unphased="guess")
