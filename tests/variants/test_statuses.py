"""Which alleles have no score, and why."""

import re

import pytest
from variant_files import write_fasta, write_vcf

from genotok.errors import InputError
from genotok.variants.alleles import STATUSES
from genotok.variants.fields import FIELDS, HAPLOTYPE_FIELDS
from genotok.variants.haplotypes import HAPLOTYPE_STATUSES
from genotok.variants.score import score_vcf

GENOME = {"chr1": "ACGTACGTACNNRYACGTTTTTGGCATGCAAC" * 3, "MT": "ACGT" * 10}


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (("chr1", 2, "C", "T"), "ok"),
        (("1", 2, "C", "T"), "ok"),
        (("chrM", 2, "C", "T"), "ok"),
        (("chr1", 2, "c", "t"), "ok"),
        (("chr1", 2, "CGT", "C"), "ok"),
        (("chr1", 96, "C", "CAAA"), "ok"),
        (("chr2", 2, "C", "T"), "unknown_contig"),
        (("chr1", 2, "A", "T"), "ref_mismatch"),
        (("chr1", 2, "CGA", "C"), "ref_mismatch"),
        (("chr1", 97, "C", "T"), "ref_mismatch"),
        (("chr1", 96, "CA", "C"), "ref_mismatch"),
        (("chr1", 1 << 30, "C", "T"), "ref_mismatch"),
        (("chr1", 0, "A", "T"), "ref_mismatch"),
        (("chr1", 0, "AA", "T"), "ref_mismatch"),
        (("chr1", 11, "A", "T"), "ref_mismatch"),
        (("chr1", 2, "N", "T"), "ref_mismatch"),
        (("chr1", 2, "C", "<DEL>"), "symbolic"),
        (("chr1", 0, "N", "<DUP>"), "symbolic"),
        (("chr2", 2, "C", "*"), "symbolic"),
        (("chr1", 2, "C", "C[chr1:9["), "symbolic"),
        (("chr1", 2, "C", ".C"), "symbolic"),
        (("chr1", 2, "C", "N"), "ambiguous_base"),
        (("chr1", 2, "C", "CR"), "ambiguous_base"),
        (("chr1", 2, "C", "C-"), "ambiguous_base"),
        (("chr1", 10, "CN", "C"), "ambiguous_base"),
        (("chr1", 13, "R", "C"), "ambiguous_base"),
        (("chr1", 13, "A", "C"), "ambiguous_base"),
        (("chr1", 13, "G", "C"), "ref_mismatch"),
        (("chr1", 2, "C", "C" + "A" * 16), "ok"),
        (("chr1", 2, "C", "C" + "A" * 17), "too_long"),
        (("chr1", 2, "C", "T" * 17), "too_long"),
    ],
)
def test_status(score, record, status):
    found = score(GENOME, [record])[0]
    assert found.status == (status,)
    assert score.counts == dict.fromkeys(STATUSES, 0) | {status: 1}
    scored = [number is not None for field in (found.llr, found.forward, found.reverse) for number in field]
    assert scored == [status == "ok"] * 3
    row = score.table[0]
    assert [row[key] for key in ("chrom", "pos", "ref", "alt", "status")] == [*record, status]
    assert [row[key] is not None for key in ("llr", "llr_fwd", "llr_rc")] == [status == "ok"] * 3


def test_a_record_without_alt_is_kept_without_values(score):
    found = score(GENOME, [("chr1", 2, "C", "."), ("chr1", 3, "G", "T")])
    assert found[0].place == ("chr1", 2, "C", None)
    assert (found[0].llr, found[0].status) == (None, None)
    assert score.counts["missing"] == score.counts["ok"] == 1
    assert len(score.table) == 1


def test_each_allele_of_a_site_has_its_own_status(score):
    found = score(GENOME, [("chr1", 2, "C", "T,*,<NON_REF>,N,CA,."), ("chr1", 2, "A", "T,<DEL>,N")])
    assert found[0].status == ("ok", "symbolic", "symbolic", "ambiguous_base", "ok", "missing")
    assert [number is not None for number in found[0].llr] == [True, False, False, False, True, False]
    assert found[1].status == ("ref_mismatch", "symbolic", "ref_mismatch")
    alone = score(GENOME, [("chr1", 2, "C", "T"), ("chr1", 2, "C", "CA")])
    assert [record.llr[0] for record in alone] == pytest.approx([found[0].llr[0], found[0].llr[4]], abs=1e-5)


def test_a_mismatch_can_be_an_error(score, tmp_path):
    records = [("chr1", 2, "C", "T"), ("chr1", 7, "AC", "A")]
    with pytest.raises(InputError, match=r"^chr1:7: REF is AC, and \S*genome.fa has GT there; give"):
        score(GENOME, records, ref_mismatch="error")
    with pytest.raises(InputError, match=r"chr1:97: REF is C, and \S* has only 96 letters in chr1"):
        score(GENOME, [("chr1", 97, "C", "T")], ref_mismatch="error")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "genome.fa.fai", "in.vcf"]
    score(
        GENOME,
        [("chr1", 2, "A", "<DEL>"), ("chr2", 2, "C", "T"), ("chr1", 2, "C", "T")],
        ref_mismatch="error",
    )
    assert (score.counts["symbolic"], score.counts["unknown_contig"], score.counts["ok"]) == (1, 1, 1)


def test_ref_of_the_vcf_can_take_the_place_of_the_reference(score, capsys):
    contig = GENOME["chr1"]
    patched = contig[:16] + "AAAA" + contig[20:]
    expected = score({"chr1": patched}, [("chr1", 17, "AAAA", "AA"), ("chr1", 17, "AAAA", "ATTA")])
    capsys.readouterr()
    found = score(
        {"chr1": contig}, [("chr1", 17, "AAAA", "AA"), ("chr1", 17, "AAAA", "ATTA")], ref_mismatch="use-vcf"
    )
    assert [record.llr for record in found] == [record.llr for record in expected]
    assert "REF of 2 records is not the FASTA's" in capsys.readouterr().err
    outside = score(GENOME, [("chr1", 96, "CA", "C"), ("chr1", 2, "N", "T")], ref_mismatch="use-vcf")
    assert [record.status for record in outside] == [("ref_mismatch",), ("ambiguous_base",)]


def test_contigs_can_be_given_other_names(score, tmp_path, capsys):
    aliases = tmp_path / "aliases.tsv"
    aliases.write_text("# VCF\tFASTA\nNC_000001.11\tchr1\n\n")
    records = [("NC_000001.11", 2, "C", "T"), ("NC_000002.12", 2, "C", "T")]
    records.append(("NC_000002.12", 3, "C", "T"))
    found = score(GENOME, records, "##contig=<ID=unused,length=9>\n", contig_aliases=aliases)
    assert [record.status for record in found] == [("ok",), ("unknown_contig",), ("unknown_contig",)]
    said = capsys.readouterr().err
    assert (
        f"genome.fa has no contig NC_000002.12, but {', '.join(GENOME)}; where these are other names" in said
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 chr1\n", "line 1: write the VCF's name, a tab and the FASTA's name"),
        ("1\tchr1\n1\tMT\n", "line 2: 1 stands there twice"),
        ("1\tchr9\n", r"line 1: \S*genome.fa has no contig chr9"),
    ],
)
def test_bad_tables_of_names(score, tmp_path, text, sentence):
    (tmp_path / "aliases.tsv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        score(GENOME, [("chr1", 2, "C", "T")], contig_aliases=tmp_path / "aliases.tsv")


def test_another_assembly_is_noticed(score, capsys):
    meta = "##contig=<ID=MT,length=40>\n##contig=<ID=chr1,assembly=x,length=95>\n"
    score(GENOME, [("chr1", 2, "C", "T")], meta=meta)
    said = capsys.readouterr().err
    assert "contig chr1 has 95 letters there and 96 in" in said
    assert "score: ok 1;" in said


def test_choices_and_windows_are_checked(tmp_path, model_folder):
    vcf = str(write_vcf(tmp_path / "in.vcf", []))
    fasta = write_fasta(tmp_path / "g.fa", GENOME)
    for options, sentence in [
        ({"strands": "reverse"}, "strands: is 'reverse' and must be one of both, forward"),
        ({"ref_mismatch": "warn"}, "ref_mismatch: is 'warn' and must be one of error, skip, use-vcf"),
        ({"precision": "fp16"}, "precision: is 'fp16' and must be one of auto, fp32, bf16"),
        ({"window": 1}, "window: is 1 and must be at least 2"),
    ]:
        with pytest.raises(InputError, match=sentence):
            score_vcf(vcf, fasta, model_folder, str(tmp_path / "out.vcf"), **options)


@pytest.mark.parametrize(("others", "share"), [(1, None), (2, "18%")])
def test_many_mismatches_ask_for_the_assembly(score, capsys, others, share):
    """More than one in ten; alleles without a verdict on REF do not count."""
    records = [("chr1", 2, "C", "T"), ("chr1", 3, "A", "<DEL>"), ("chr2", 3, "A", "T")] * 9
    score(GENOME, [*records, *[("chr1", 2, "A", "T")] * others])
    said = [line for line in capsys.readouterr().err.splitlines() if "assembly" in line]
    assert len(said) == (share is not None)
    assert share is None or f"genome.fa has for {share} of the alleles; is it the assembly" in said[0]


def test_the_header_lists_every_status():
    """A reader of the VCF has nothing else."""
    statuses, of_haplotypes = (
        field.description for field in (*FIELDS, *HAPLOTYPE_FIELDS) if field.kind == "String"
    )
    assert set(STATUSES) <= set(re.findall(r"\w+", statuses))
    assert set(HAPLOTYPE_STATUSES) <= set(re.findall(r"\w+", of_haplotypes))
