"""The shipped genomes, variants and their list of sources are what they say."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pysam
import pytest

from genotok.atomic import sha256_of
from genotok.evaluation.markov import bits_per_base, fit_markov_baselines
from genotok.evaluation.variant_effect import evaluate_variants

ROOT = Path(__file__).resolve().parents[2]
GENOMES = ROOT / "resources" / "genomes"
VARIANTS = ROOT / "resources" / "variants" / "sars_cov_2_fitness.vcf.gz"


def module(name):
    """A module that stands beside the builder of the resources."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "resources" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


near_copies, consequences = module("near_copies"), module("consequence")


def contigs(name):
    with pysam.FastxFile(str(GENOMES / f"{name}.fa.gz")) as handle:
        return {record.name: record.sequence for record in handle}


def ids(sequence):
    codes = np.full(256, 4, dtype=np.uint8)
    codes[np.frombuffer(b"ACGT", dtype=np.uint8)] = range(4)
    return codes[np.frombuffer(sequence.encode(), dtype=np.uint8)]


@pytest.mark.parametrize("folder", ["resources", "tests/data"])
def test_every_data_file_is_listed_with_its_checksum(folder):
    with open(ROOT / folder / "SOURCES.tsv", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    for row in rows:
        path = ROOT / folder / row["file"]
        assert (path.stat().st_size, sha256_of(path)) == (int(row["bytes"]), row["sha256"])
        assert all(row[key] for key in ("repository", "path", "commit", "licence", "derived"))
    assert len({row["file"] for row in rows}) == len(rows)


@pytest.mark.parametrize("path", sorted(GENOMES.glob("*.fa.gz")), ids=lambda path: path.name)
def test_genomes_can_be_indexed_and_their_contigs_named(path, tmp_path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    with pysam.FastaFile(str(copy)) as fasta:
        assert len(set(fasta.references)) == len(fasta.references)
        for name in fasta.references:
            assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
        first = fasta.references[0]
        assert set(fasta.fetch(first, 100, 200)) <= set("ACGT")


def test_no_virus_is_a_copy_of_another_or_of_the_held_out_genomes():
    viruses = contigs("viruses")
    sets = {name: near_copies.kmers(sequence) for name, sequence in viruses.items()}
    for held_out in ("sars_cov_2", "lambda"):
        (sequence,) = contigs(held_out).values()
        for name, kmers in sets.items():
            assert near_copies.containment(kmers, near_copies.kmers(sequence)) < 0.01, (held_out, name)
    names = list(sets)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert near_copies.containment(sets[name], sets[other]) <= 0.15, (name, other)


def test_kmers_are_those_of_both_strands():
    sequence = "ACGTTGCATGCCGATTAACCGGTATCNGATTACAGATTACAGATTACAGG"
    complement = str.maketrans("ACGTN", "TGCAN")
    windows = [sequence[i : i + 21] for i in range(len(sequence) - 20)]
    expected = {min(w, w.translate(complement)[::-1]) for w in windows if "N" not in w}
    found = near_copies.kmers(sequence)
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found, near_copies.kmers(sequence.translate(complement)[::-1]))
    assert len(near_copies.kmers("ACGT")) == 0
    assert near_copies.nearest_kept([sequence, "ACGT", sequence[:25], sequence], 0.5) == [
        None,
        None,
        (0, 1.0),
        (0, 1.0),
    ]


def fitness_table():
    rows = []
    with pysam.VariantFile(str(VARIANTS)) as records:
        for record in records:
            keys = ("FITNESS", "EXPECTED_COUNT", "CONSEQUENCE")
            for alt, *values in zip(record.alts, *(record.info[key] for key in keys), strict=True):
                rows.append((record.pos, record.ref, alt, *values, record.info.get("GENE", "")))
    return pd.DataFrame(rows, columns=["pos", "ref", "alt", "fitness", "expected", "consequence", "gene"])


def test_fitness_variants_fit_the_genome():
    (genome,) = contigs("sars_cov_2").values()
    table = fitness_table()
    assert len(table) == 87_830
    assert (table.ref == [genome[position - 1] for position in table.pos]).all()
    assert (table.ref != table.alt).all()
    assert (table.expected >= 10).all()
    with pysam.VariantFile(str(VARIANTS)) as records:
        assert [record.pos for record in records.fetch("NC_045512.2", 23_402, 23_403)] == [23_403]
        assert records.header.contigs["NC_045512.2"].length == len(genome)


@pytest.mark.parametrize(
    ("position", "alt", "expected", "gene"),
    [
        (23_403, "G", "missense", "S"),  # D614G
        (3_037, "T", "synonymous", "ORF1a"),  # F924F
        (14_408, "T", "missense", "ORF1b"),  # P314L
        (27_972, "T", "nonsense", "ORF8"),  # Q27*
        (28_884, "A", "missense", "N"),
        (21_564, "C", "start_lost", "S"),  # the T of ATG
        (25_383, "C", "stop_lost", "S"),  # TAA to TCA
        (25_383, "G", "synonymous", "S"),  # TAA to TGA, still a stop
        (25_390, "A", "noncoding", ""),
        (13_470, "A", "missense", "ORF1a&ORF1b"),  # CGG to CGA in ORF1b, but GGG to GAG in ORF1a
        (28_290, "T", "missense", "N&ORF9b"),
    ],
)
def test_consequences_of_known_mutations(position, alt, expected, gene):
    table = fitness_table()
    row = table[(table.pos == position) & (table.alt == alt)].iloc[0]
    assert (row.consequence, row.gene) == (expected, gene)


def test_frames_are_read_from_genbank_and_a_broken_one_is_refused(tmp_path):
    genbank = tmp_path / "two.gb"
    text = 'FEATURES\n     CDS             3..8\n                     /gene="one"\n     CDS             {}\n'
    text += '                     /gene="two"\nORIGIN\n        1 ccatgtaaca\n'
    genbank.write_text(text.format("5..10"))
    coding = consequences.read_coding_sequences(genbank)
    assert coding == [("one", 2, 8), ("two", 4, 10)]
    assert consequences.genes_at(4, coding) == ["one", "two"]
    assert consequences.consequence("CCATGTAACA", 4, "A", coding) == "start_lost"
    assert consequences.consequence("CCATGTAACA", 0, "A", coding) == "noncoding"
    genbank.write_text(text.format("5..9"))
    with pytest.raises(ValueError, match="whole codons"):
        consequences.read_coding_sequences(genbank)


def test_trivial_scores_already_agree_with_the_fitness_of_sars_cov_2():
    table = fitness_table()
    found = evaluate_variants(table.assign(llr=0.0), consequence="consequence", resamples=20)["predictors"]
    assert found["model"]["spearman"] is None
    assert 0.15 < found["transition"]["spearman"] < 0.25
    assert 0.4 < found["consequence"]["spearman"] < 0.5


def test_longer_contexts_help_on_a_held_out_virus():
    train = [ids(sequence) for sequence in contigs("viruses").values()]
    test = [ids(sequence) for sequence in contigs("sars_cov_2").values()]
    baselines = fit_markov_baselines(train, orders=(0, 4), both_strands=False)
    order_0, order_4 = (bits_per_base(baselines[name], test) for name in ("markov_0", "markov_4"))
    assert order_4 + 0.005 < order_0 < 2
