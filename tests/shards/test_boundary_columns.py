"""Shards with boundaries: what the column holds on either strand, and what is refused."""

import json

import numpy as np
import pytest
from fasta_files import random_letters, write

from genotok.errors import InputError
from genotok.genomes.records import Reading
from genotok.shards.boundaries import add_boundaries
from genotok.shards.entropies import annotate_shards
from genotok.shards.manifest import merge_manifests, read_manifest
from genotok.shards.reader import ShardDataset
from genotok.shards.sampler import TrainingBatches, batches_in_order
from genotok.shards.writer import tokenize_genomes

LENGTHS = {"chr1": 140, "chr2": 50, "chr3": 9}
INTERVALS = {"1": [(3, 7), (5, 30), (60, 61), (128, 140)], "chr2": [(0, 50), (20, 23)]}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boundaries")
    contigs = {name: random_letters(length, length) for name, length in LENGTHS.items()}
    fasta = write(folder / "g.fa", contigs)
    tokenize_genomes([fasta], folder / "out", window=12, stride=7, valid=["chr2"], test=["chr3"])
    lines = [f"{name}\t{start}\t{end}\n" for name, found in INTERVALS.items() for start, end in found]
    (folder / "genes.bed").write_text("".join([*lines, "other\t1\t2\nmore\t3\t4\n"]))
    return folder / "out"


@pytest.fixture(scope="module")
def bounded(shards):
    add_boundaries(shards, shards.parent / "genes.bed", shards.parent / "bounded")
    return shards.parent / "bounded"


def boundaries_by_hand(contig, start, length, reverse=False):
    """Letter by letter, on the opposite strand with the intervals' places on that strand."""
    total, edges = LENGTHS[contig], set()
    for name, found in INTERVALS.items():
        if name in (contig, contig.removeprefix("chr")):
            edges |= {place for interval in found for place in interval}
    if reverse:
        edges, start = {total - place for place in edges}, total - start - length
    return [i == 0 or start + i in edges for i in range(length)]


@pytest.mark.parametrize("reverse", [False, True])
def test_every_window_on_either_strand(shards, bounded, reverse):
    for split in ("train", "valid", "test"):
        plain, found = ShardDataset(shards, split), ShardDataset(bounded, split)
        assert len(plain) == len(found)
        for index in range(len(plain)):
            window = found[index]
            assert np.array_equal(plain[index].ids, window.ids)
            wanted = boundaries_by_hand(window.contig, window.start, len(window.ids), reverse)
            assert found.boundaries(index, reverse).tolist() == wanted


@pytest.mark.parametrize("tokenizer", ["nucleotide", "byte"])
def test_batches_with_boundaries(shards, bounded, tokenizer, tmp_path):
    """Beside each token its bool; a start token begins the first chunk, and the first letter is in it."""
    if tokenizer == "byte":
        tokenize_genomes([shards.parent / "g.fa"], tmp_path / "byte", tokenizer="byte", window=12, stride=7)
        add_boundaries(tmp_path / "byte", shards.parent / "genes.bed", tmp_path / "bounded")
        bounded = tmp_path / "bounded"
    dataset = ShardDataset(bounded, "train")
    starts = dataset.manifest.letter_tokenizer.start_id is not None
    begin = [True, False] if starts else [True]
    batches = TrainingBatches(dataset, 5, 3, True)
    batches.column = "boundaries"
    for _ in range(12):
        # The order is the sampler's own; a second one tells which windows and strands it has taken.
        before = batches.order.state()
        batch = next(batches)
        after = batches.order.state()
        batches.order.restore(before)
        places = [batches.order.next_place() for _ in range(5)]
        assert batches.order.state() == after
        for place, row, length in zip(places, batch.boundary_inputs, batch.lengths.tolist(), strict=True):
            window = dataset[place.index]
            wanted = boundaries_by_hand(window.contig, window.start, len(window.ids), place.reverse)
            assert row[:length].tolist() == begin + wanted[1:]
            assert not row[length:].any()
    for windows, batch in batches_in_order(dataset, 4, column="boundaries"):
        for window, row in zip(windows, batch.boundary_inputs.tolist(), strict=True):
            wanted = begin + boundaries_by_hand(window.contig, window.start, len(window.ids))[1:]
            assert row[: len(wanted)] == wanted


def test_what_is_said_and_noted(shards, tmp_path, capsys):
    add_boundaries(shards, shards.parent / "genes.bed", tmp_path / "out")
    said = [line for line in capsys.readouterr().err.splitlines() if "genes.bed" in line]
    assert len(said) == 1
    assert "genes.bed: 2 of its contigs are not in " in said[0]
    assert said[0].endswith(": other, more")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (noted,) = manifest["boundaries"]
    assert (noted["file"], noted["features"], len(noted["sha256"])) == ("genes.bed", [], 64)
    assert "boundaries" not in (shards / "manifest.json").read_text()


def test_the_same_bytes_again_and_beside_entropies(shards, bounded, tmp_path):
    add_boundaries(shards, shards.parent / "genes.bed", tmp_path / "again")
    for path in sorted(bounded.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    annotate_shards(bounded, tmp_path / "both", lambda windows: [ids / 7 for ids in windows], "ab" * 32)
    both = ShardDataset(tmp_path / "both", "valid")
    assert both.manifest.boundaries == ShardDataset(bounded, "valid").manifest.boundaries
    assert both.manifest.entropies["model"] == "ab" * 32
    assert both.boundaries(1).tolist() == ShardDataset(bounded, "valid").boundaries(1).tolist()
    assert both.entropies(1).tolist() == pytest.approx((both[1].ids / 7).tolist())


def test_each_genome_has_its_own_file(shards, bounded, tmp_path):
    """A name in two genomes says nothing; one file a genome does, and the manifests go together."""
    other = write(tmp_path / "h.fa", {"chr1": random_letters(60, 3)})
    tokenize_genomes([other], tmp_path / "h", window=12, stride=7)
    merge_manifests([shards, tmp_path / "h"], tmp_path / "plain")
    with pytest.raises(
        InputError, match=r"the contig chr1 is in two genomes of .*plain, g and h; add the boundaries"
    ):
        add_boundaries(tmp_path / "plain", shards.parent / "genes.bed", tmp_path / "out")
    with pytest.raises(InputError, match="h: has no column of boundaries, and the shards before it have"):
        merge_manifests([bounded, tmp_path / "h"], tmp_path / "merged")
    (tmp_path / "h.gff").write_text("1\t.\tCDS\t6\t10\t.\t+\t.\t.\nchr1\t.\tgene\t1\t60\t.\t+\t.\t.\n")
    add_boundaries(tmp_path / "h", tmp_path / "h.gff", tmp_path / "h2", ["CDS"])
    merged = merge_manifests([bounded, tmp_path / "h2"], tmp_path / "merged")
    assert [(file["file"], file["features"]) for file in merged.boundaries] == [
        ("genes.bed", []),
        ("h.gff", ["CDS"]),
    ]
    found = ShardDataset(tmp_path / "merged", "train")
    (index,) = [i for i in range(len(found)) if (found[i].genome, found[i].start) == ("h", 0)]
    assert np.flatnonzero(found.boundaries(index)).tolist() == [0, 5, 10]


def test_what_cannot_have_boundaries(shards, bounded, tmp_path):
    genes = shards.parent / "genes.bed"
    with pytest.raises(InputError, match="bounded: has boundaries already"):
        add_boundaries(bounded, genes, tmp_path / "out")
    with pytest.raises(InputError, match="are the shards themselves"):
        add_boundaries(shards, genes, shards)
    tokenize_genomes([shards.parent / "g.fa"], tmp_path / "kmer", tokenizer="kmer", window=12)
    with pytest.raises(
        InputError, match="tokenizer 'kmer' has tokens of several letters, and this needs one"
    ):
        add_boundaries(tmp_path / "kmer", genes, tmp_path / "out")
    tokenize_genomes([shards.parent / "g.fa"], tmp_path / "many", window=12, reading=Reading(many=True))
    with pytest.raises(InputError, match="many: lists no contigs, as of reads, rows and proteins"):
        add_boundaries(tmp_path / "many", genes, tmp_path / "out")
    (tmp_path / "bad.bed").write_text("chr1\t1\n")
    with pytest.raises(InputError, match=r"bad\.bed: line 1: "):
        add_boundaries(shards, tmp_path / "bad.bed", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert read_manifest(shards)[1].boundaries is None
