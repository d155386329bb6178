"""Consequence classes against cases worked out by hand, and against a translation of whole proteins."""

import random

import pytest

from genotok.errors import InputError
from genotok.evaluation.consequences import GENETIC_CODES, SEVEREST_FIRST, Annotation
from genotok.genomes.fasta import Reference, write_fasta
from genotok.genomes.gff import read_transcripts

#  1-based: exon 1 = 11-30, intron = 31-60, exon 2 = 61-80; CDS = 16-30 and 61-72.
#  CDS: ATG GCT TGG AAA TT|T CAA TGA ... the last part: 12 bases, of which the first ends the codon TT|T.
UTR5, CDS1, INTRON, CDS2, UTR3 = (
    "CCCCC",
    "ATGGCTTGGAAACTT",
    "GTAAGT" + "C" * 18 + "TTTCAG",
    "CAATACGGCTGA",
    "TTTTTTTT",
)
GENE = UTR5 + CDS1 + INTRON + CDS2 + UTR3
BEFORE, BEHIND = "A" * 10, "G" * 20
FORWARD = BEFORE + GENE + BEHIND
COMPLEMENT = str.maketrans("ACGT", "TGCA")
REVERSE = FORWARD.translate(COMPLEMENT)[::-1]
LENGTH = len(FORWARD)


def lines(contig, strand, features):
    return "".join(
        f"{contig}\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t{phase}\tID={kind}{start};Parent=t{contig}\n"
        for kind, start, end, phase in features
    )


PARTS = [("exon", 11, 30, "."), ("exon", 61, 80, "."), ("CDS", 16, 30, 0), ("CDS", 61, 72, 0)]
MIRRORED = [(kind, LENGTH + 1 - end, LENGTH + 1 - start, phase) for kind, start, end, phase in PARTS]


def annotate(folder, sequences, text):
    folder.mkdir(exist_ok=True)
    write_fasta([(name, [letters.encode()]) for name, letters in sequences.items()], folder / "g.fa")
    (folder / "g.gff3").write_text("##gff-version 3\n" + text)
    return Annotation(folder / "g.gff3", Reference(folder / "g.fa"))


@pytest.fixture
def annotation(tmp_path):
    text = lines("f", "+", PARTS) + lines("r", "-", MIRRORED)
    return annotate(tmp_path, {"f": FORWARD, "r": REVERSE, "bare": "ACGT" * 9}, text)


CASES = [  # position (1-based), REF, ALT on the forward strand of the gene
    (5, "A", "C", "intergenic"),
    (95, "G", "C", "intergenic"),
    (12, "C", "A", "utr"),
    (76, "T", "A", "utr"),
    (16, "A", "C", "start_lost"),  # ATG > CTG
    (18, "G", "A", "start_lost"),  # ATG > ATA
    (19, "G", "A", "missense"),  # GCT Ala > ACT Thr
    (21, "T", "C", "synonymous"),  # GCT > GCC
    (24, "G", "A", "nonsense"),  # TGG > TGA
    (23, "G", "A", "nonsense"),  # TGG > TAG
    (25, "A", "T", "nonsense"),  # AAA > TAA
    (30, "T", "C", "splice_region"),  # CTT > CTC is synonymous, and the exon's last base
    (29, "T", "A", "missense"),  # CTT > CAT, beside the border, but severer
    (31, "G", "A", "splice_site"),
    (32, "T", "C", "splice_site"),
    (33, "A", "C", "splice_region"),
    (38, "C", "A", "splice_region"),
    (39, "C", "A", "intron"),
    (52, "C", "A", "intron"),
    (53, "C", "A", "splice_region"),
    (59, "A", "C", "splice_site"),
    (60, "G", "C", "splice_site"),
    (61, "C", "T", "nonsense"),  # CAA > TAA
    (63, "A", "G", "splice_region"),  # CAA > CAG
    (66, "C", "T", "synonymous"),  # TAC > TAT
    (66, "C", "G", "nonsense"),  # TAC > TAG
    (70, "T", "C", "stop_lost"),  # TGA > CGA
    (71, "G", "A", "synonymous"),  # TGA > TAA
    (64, "TAC", "TGT", "missense"),  # TAC > TGT in two bases
    (66, "CG", "TT", "missense"),  # TAC GGC > TAT TGC: over two codons
    (18, "GG", "G", "frameshift"),
    (21, "TTGG", "T", "inframe_indel"),
    (21, "T", "TAAA", "inframe_indel"),
    (21, "T", "TA", "frameshift"),
    (17, "TGGC", "T", "start_lost"),  # takes the G of ATG
    (69, "CTGA", "C", "stop_lost"),
    (28, "CTTGT", "C", "splice_site"),
    (30, "T", "TC", "splice_region"),  # between exon and intron
    (31, "G", "GC", "splice_site"),
    (45, "C", "CA", "intron"),
    (15, "C", "CA", "utr"),  # between UTR and CDS
    (10, "A", "AT", "intergenic"),  # in front of the transcript
    (4, "AA", "A", "intergenic"),
]


@pytest.mark.parametrize(("position", "ref", "alt", "expected"), CASES)
def test_worked_cases_on_both_strands(annotation, position, ref, alt, expected):
    assert FORWARD[position - 1 :][: len(ref)] == ref
    assert annotation.consequence("f", position, ref, alt) == expected
    turned = LENGTH + 1 - (position + len(ref) - 1)
    ref, alt = (allele.translate(COMPLEMENT)[::-1] for allele in (ref, alt))
    assert REVERSE[turned - 1 :][: len(ref)] == ref
    assert annotation.consequence("r", turned, ref, alt) == expected


def test_what_has_no_class(annotation):
    assert annotation.consequence("f", 21, "T", "N") is None
    assert annotation.consequence("f", 21, "T", "<DEL>") is None
    assert annotation.consequence("nowhere", 21, "T", "C") is None
    assert annotation.consequence("f", 21, "t", "T") is None
    assert annotation.consequence("bare", 3, "G", "C") == "intergenic"
    assert annotation.consequence("chrf", 21, "t", "c") == "synonymous"


def test_codons_that_an_intron_cuts(tmp_path):
    """The first part holds 4 bases; the second codon is A|TG, so that its phase is 2."""
    exon1, intron, exon2 = "ATGA", "GT" + "C" * 20 + "AG", "GATAA"
    for phase in ("2", "."):
        parts = [("CDS", 1, 4, 0), ("CDS", 29, 33, phase)]
        found = annotate(tmp_path / phase, {"f": exon1 + intron + exon2}, lines("f", "+", parts))
        assert found.consequence("f", 4, "A", "T") == "nonsense"  # AGA > TGA
        assert found.consequence("f", 30, "A", "G") == "splice_region"  # AGA > AGG
        assert found.consequence("f", 29, "G", "A") == "missense"  # AGA > AAA
        assert found.consequence("f", 33, "A", "C") == "stop_lost"


def test_a_part_of_a_protein_begins_within_a_codon(tmp_path):
    """CDS C|TGG|TAA in phase 1: no start codon, and the first base belongs to no whole codon."""
    found = annotate(tmp_path, {"f": "CTGGTAA" + "C" * 9}, lines("f", "+", [("CDS", 1, 7, 1)]))
    assert found.consequence("f", 4, "G", "A") == "nonsense"
    assert found.consequence("f", 2, "T", "C") == "missense"
    assert found.consequence("f", 1, "C", "A") == "synonymous"


def test_a_shift_of_the_frame(tmp_path):
    """Base 6 is read twice, as in coronaviruses: ATG AAA and AGG TAA."""
    parts = [("CDS", 1, 6, 0), ("CDS", 6, 11, 0)]
    found = annotate(tmp_path, {"f": "ATGAAAGGTAA" + "C" * 9}, lines("f", "+", parts))
    assert found.consequence("f", 6, "A", "G") == "missense"  # AAA > AAG is synonymous, AGG > GGG is not
    assert found.consequence("f", 9, "T", "C") == "stop_lost"
    assert found.splice_distance("f", 6, "A", "G") == float("inf")


def test_the_severest_of_several_transcripts(tmp_path):
    text = lines("f", "+", PARTS) + "f\tx\texon\t1\t90\t.\t-\t.\tParent=u\n"
    found = annotate(tmp_path, {"f": FORWARD}, text)
    assert found.consequence("f", 24, "G", "A") == "nonsense"
    assert found.consequence("f", 45, "C", "A") == "noncoding_exon"
    assert found.consequence("f", 5, "A", "C") == "noncoding_exon"
    assert found.consequence("f", 95, "G", "A") == "intergenic"


def test_another_genetic_code(tmp_path):
    text = lines("f", "+", [("CDS", 1, 9, 0)]).replace("ID=", "transl_table=2;ID=")
    assert annotate(tmp_path, {"f": "ATGTGGTAA"}, text).consequence("f", 6, "G", "A") == "synonymous"
    with pytest.raises(InputError, match="tf: transl_table=77 is none of 1, 2"):
        annotate(tmp_path, {"f": "ATGTGGTAA"}, text.replace("=2;", "=77;"))


@pytest.mark.parametrize("strand", "+-")
def test_random_genes_against_translated_proteins(tmp_path, strand):
    """Every SNV of coding sequences of random parts, judged by comparing whole proteins."""
    draw = random.Random(strand)
    letters = "".join(draw.choices("ACGT", k=400))
    parts, start = [], 5
    while start < 330:
        end = start + draw.randrange(4, 40)
        parts.append((start, end))
        start = end + draw.randrange(20, 40)
    features, done = [], 0
    for start, end in parts if strand == "+" else parts[::-1]:
        features.append(("CDS", start + 1, end, -done % 3))
        done += end - start
    found = annotate(tmp_path, {"f": letters}, lines("f", strand, features))

    def protein(text):
        coding = "".join(text[start:end] for start, end in parts)
        coding = coding if strand == "+" else coding.translate(COMPLEMENT)[::-1]
        return [GENETIC_CODES[1][coding[i : i + 3]] for i in range(0, len(coding) - 2, 3)], coding[
            :3
        ] == "ATG"

    before, begins = protein(letters)
    seen = set()
    for start, end in parts:
        for base in range(start + 3, end - 3):  # off the splice regions
            for alt in set("ACGT") - {letters[base]}:
                after, _ = protein(letters[:base] + alt + letters[base + 1 :])
                changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
                expected = "synonymous"
                if changed:
                    ((old, new),) = changed
                    expected = "nonsense" if new == "*" else "stop_lost" if old == "*" else "missense"
                got = found.consequence("f", base + 1, letters[base], alt)
                assert got == expected or (begins and got == "start_lost")
                seen.add(got)
    assert {"synonymous", "missense", "nonsense"} <= seen <= set(SEVEREST_FIRST)


def test_distance_to_splice_sites(annotation):
    expected = {30: 1, 31: 1, 29: 2, 32: 2, 60: 1, 61: 1, 45: 15, 46: 15, 1: 30, 100: 40}
    assert {at: annotation.splice_distance("f", at, "A", "C") for at in expected} == expected
    assert annotation.splice_distance("f", 28, "ACGT", "A") == 1  # bases 29 to 31
    assert annotation.splice_distance("f", 26, "ACG", "A") == 3  # bases 27 and 28
    assert annotation.splice_distance("bare", 3, "A", "C") == float("inf")


def test_gff_is_read(tmp_path):
    """Attributes with escapes, several parents, UTRs without exons, a FASTA behind."""
    path = tmp_path / "x.gff3"
    path.write_text(
        "##gff-version 3\nc%201\tx\tgene\t1\t90\t.\t+\t.\tID=g\n"
        "c%201\tx\tfive_prime_UTR\t1\t10\t.\t+\t.\tParent=a,b\n"
        "c%201\tx\tCDS\t11\t20\t.\t+\t0\tParent=a\nd\tx\tCDS\t5\t9\t.\t-\t.\tID=lone\n##FASTA\n>c\nACGT\n"
    )
    a, b, lone = read_transcripts(path)
    assert (a.name, a.contig, a.exons, a.coding) == ("a", "c 1", [(0, 20)], [(10, 20, 0)])
    assert (b.name, b.exons, b.coding) == ("b", [(0, 10)], [])
    assert (lone.name, lone.forward, lone.coding) == ("lone", False, [(4, 9, None)])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("c\tx\tCDS\t1\n", "line 1: has 4 columns"),
        ("c\tx\tCDS\t9\t3\t.\t+\t0\tID=a\n", "line 1: begins at 9 and ends at 3"),
        ("c\tx\tCDS\t1\t3\t.\t.\t0\tID=a\n", r"the strand \+ or -"),
        ("c\tx\tCDS\t1\t3\t.\t+\t0\t.\n", "neither Parent nor ID"),
        ("c\tx\tCDS\t1\t3\t.\t+\t0\tID=a\nd\tx\tCDS\t1\t3\t.\t+\t0\tID=a\n", "line 2: a lies on two contigs"),
    ],
)
def test_what_is_no_gff(tmp_path, text, sentence):
    (tmp_path / "x.gff3").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_transcripts(tmp_path / "x.gff3")


def test_a_gff_of_another_genome(tmp_path):
    with pytest.raises(InputError, match="has no exon or CDS on a contig of"):
        annotate(tmp_path, {"q": FORWARD}, lines("f", "+", PARTS))
