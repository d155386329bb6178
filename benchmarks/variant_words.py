"""What counts of words say of measured effects of variants: `python -m benchmarks.variant_words -o FILE.json`.

Markov models of some orders count the training sequence of `config/compare.yaml`, or one genome of it, on both
strands. A variant of SARS-CoV-2 is scored as by a language model: log p(ALT) - log p(REF), the mean of both strands.
Beside them stands whether a variant brings G or C in place of A or T, for which no sequence need be read. What the
letters alone give is what a model's correlation has to be held against.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam
from scipy.stats import spearmanr

from benchmarks.machine import describe_run, write_result
from genotok.evaluation.markov import MarkovModel
from genotok.genomes.records import sequence_records

RESOURCES = Path(__file__).parents[1] / "resources"
HELD_OUT = {"yeast_R64": ("XV", "XVI")}
GENOMES = ("yeast_R64", "ecoli_K12", "viruses")
ORDERS = (0, 1, 2, 4, 8)
CODES = np.full(256, 4, np.int64)
CODES[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3, 0, 1, 2, 3]

Allele = tuple[int, int, float]  # position from 0, ALT as a code, measured effect


def contigs_of(name: str) -> list[np.ndarray]:
    """The contigs of a genome that are trained on, A C G T as 0 1 2 3."""
    found = []
    for record in sequence_records(RESOURCES / "genomes" / f"{name}.fa.gz"):
        letters = b"".join(record.blocks)
        if record.name not in HELD_OUT.get(name, ()):
            found.append(CODES[np.frombuffer(letters, np.uint8)])
    return found


def measured_alleles(vcf: Path) -> list[Allele]:
    """Single letters with a measured effect."""
    found = []
    with pysam.VariantFile(str(vcf)) as file:
        for record in file:
            for alt, effect in zip(record.alts, record.info["FITNESS"], strict=True):
                if effect is not None and len(record.ref) == len(alt) == 1:
                    found.append((record.pos - 1, int(CODES[ord(alt)]), effect))
    return found


def change(model: MarkovModel, sequence: np.ndarray, position: int, alt: int) -> float:
    """log2 p(ALT) - log2 p(REF), the mean of both strands, with all the letters whose words hold the changed one."""
    begin, end = max(position - 2 * model.order, 0), position + 2 * model.order + 1
    first = sequence[begin:end]
    second = first.copy()
    second[position - begin] = alt
    one, two = (_log2(model, letters, position - begin) for letters in (first, second))
    return two - one


def _log2(model: MarkovModel, letters: np.ndarray, place: int) -> float:
    total = 0.0
    other = np.where(letters < 4, 3 - letters, 4)[::-1]
    for strand, at in ((letters, place), (other, len(letters) - 1 - place)):
        total += float(model.log2_probability(strand)[at : at + model.order + 1].sum())
    return total / 2


def rows_of(
    alleles: Sequence[Allele], sequence: np.ndarray, genomes: Sequence[str]
) -> list[dict[str, object]]:
    """Spearman's correlation of each score with the effects."""
    effects = [effect for _, _, effect in alleles]

    def row(words: str, order: int | None, scores: list[float]) -> dict[str, object]:
        return {"words": words, "order": order, "spearman": round(float(spearmanr(scores, effects)[0]), 4)}

    strong = np.isin(np.arange(4), (1, 2)).astype(float)
    found = [row("G or C gained", None, [strong[alt] - strong[sequence[at]] for at, alt, _ in alleles])]
    contigs = {name: contigs_of(name) for name in genomes}
    for words, of in (("all", genomes), *((name, [name]) for name in genomes)):
        for order in ORDERS:
            model = MarkovModel(order, both_strands=True)
            for contig in (contig for name in of for contig in contigs[name]):
                model.update(contig)
            found.append(row(words, order, [change(model, sequence, at, alt) for at, alt, _ in alleles]))
    return found


def main() -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variant_words")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    alleles = measured_alleles(RESOURCES / "variants" / "sars_cov_2_fitness_sample.vcf.gz")
    (sequence,) = contigs_of("sars_cov_2")
    rows = rows_of(alleles, sequence, GENOMES)
    for row in rows:
        print(f"{row['words']}, order {row['order']}: {row['spearman']:+.3f}")
    write_result(
        options.output, describe_run("cpu", options.commit) | {"alleles": len(alleles), "rows": rows}
    )


if __name__ == "__main__":
    main()
