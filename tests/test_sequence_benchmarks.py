"""The arithmetic of benchmarks that read genomes without a model: words around variants, and open reading frames."""

import numpy as np
import pytest

from benchmarks import codon_positions, variant_words
from genotok.evaluation.markov import MarkovModel
from genotok.genomes.alphabets import reverse_complement


def test_the_words_around_a_variant_say_what_the_whole_sequence_does():
    """On both strands; a change at an end has fewer letters around it."""
    random = np.random.default_rng(4)
    sequence = random.integers(0, 4, 300)
    for order in (0, 3):
        model = MarkovModel(order, both_strands=True)
        model.update(random.integers(0, 4, 5000))
        for position in (0, 150, 299):
            alt = (sequence[position] + 1) % 4
            changed = sequence.copy()
            changed[position] = alt
            whole = [
                (model.log2_probability(one).sum() + model.log2_probability(3 - one[::-1]).sum()) / 2
                for one in (sequence, changed)
            ]
            assert variant_words.change(model, sequence, position, alt) == pytest.approx(whole[1] - whole[0])


def test_frames_of_both_strands_and_the_longest_of_two_that_overlap(tmp_path):
    """Genes of four codons and more, planted among letters that hold no start."""
    gene, longer = "ATGGCAGCAGCAGCATAA", "GTGGCAGCAGCAGCAGCAGCATGA"
    other = reverse_complement(longer.encode()).decode()
    letters = "CCCCC" + gene + "CCCC" + other + "CCC"
    assert codon_positions.long_frames(letters, 4) == [(5, 23, "+"), (27, 51, "-")]
    assert codon_positions.long_frames(letters, 7) == [(27, 51, "-")]
    assert codon_positions.long_frames(letters.replace("ATGGCAGCA", "ATGGCNGCA"), 4) == [(27, 51, "-")]
    inside = (
        "CCCCC" + "ATGGCATGCAGCAGCAGCAGTAGCAGCAGCAGCTAA" + "CCC"
    )  # with ATGCAGCAGCAGCAGTAG as a second frame
    assert codon_positions.long_frames(inside, 4) == [(5, 41, "+")]
    assert codon_positions.long_frames(inside[7:], 4) == [(3, 21, "+")]
    fasta = tmp_path / "one.fa"
    fasta.write_text(">one\n" + ("ATG" + "GCA" * 310 + "TAA").lower() + "\n")
    assert codon_positions.write_frames(fasta, tmp_path / "frames.gff3") == 1
    assert "one\tframes\tCDS\t1\t936\t.\t+\t0\tID=frame1\n" in (tmp_path / "frames.gff3").read_text()
