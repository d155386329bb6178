"""What is known about scored alleles: measured effects or labels, of INFO fields or of a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genotok.errors import InputError
from genotok.evaluation.consequences import Annotation
from genotok.evaluation.trivial_scores import annotate, sequence_scores
from genotok.genomes.contigs import match_contig
from genotok.genomes.fasta import Reference
from genotok.report.scored_alleles import ALLELE, read_alleles, read_scores

YES, NO = ("1", "true"), ("0", "false")


@dataclass(frozen=True)
class Truth:
    """Where the truth about scored alleles stands; empty names are None.

    Attributes:
        truth: a field of numbers, higher = fitter.
        label: a field of labels.
        positive: labels that mean harmful; 1 and true where there are none.
        negative: labels that mean harmless. Where there are none: 0 and false, or, beside `positive`, all other
            labels.
        consequence: a field of consequence classes.
        table: TSV or Parquet with `chrom`, `pos` (1-based), `ref`, `alt` and the fields as columns; None: the fields
            are INFO fields of the scored VCF.
        gff: GFF3 for consequence classes (unless `consequence` names a field) and distances to splice sites.
        reference: FASTA for what the letters around say; needed with `gff`.
    """

    truth: str | None = None
    label: str | None = None
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    consequence: str | None = None
    table: Path | None = None
    gff: Path | None = None
    reference: Path | None = None


def alleles_with_truth(parquet: Path, scored_vcf: Path, known: Truth) -> tuple[pd.DataFrame, list[str]]:
    """The table of scores with what is known about each allele.

    Returns:
        The table, with the columns `truth` (float64), `positive` (True, False, None) and `consequence` where they are
        known; and the names of its columns that hold trivial scores.

    Raises:
        InputError: a file cannot be read, lacks a field, or holds two truths about one allele; `gff` without
            `reference`.
    """
    if known.gff and not known.reference:
        raise InputError("a GFF needs the genome that it is of; give --reference")
    if known.table:
        alleles = _with_table(read_scores(parquet), known)
    else:
        alleles = read_alleles(parquet, scored_vcf, known.truth, known.consequence, known.label)
    if known.label:
        alleles["positive"] = positives(alleles.pop("label"), known.positive, known.negative)
    return _with_trivial_scores(alleles, known)


def positives(labels: Iterable, positive: tuple[str, ...], negative: tuple[str, ...]) -> list[bool | None]:
    """Labels as True for harmful, False for harmless and None for unknown; see `Truth`. Case is of no account."""
    yes = {word.lower() for word in positive or YES}
    no = {word.lower() for word in negative or (() if positive else NO)}

    def judge(label: object) -> bool | None:
        if label is None or label != label:
            return None
        number = isinstance(label, int | float) and not isinstance(label, bool)
        word = f"{label:g}" if number else str(label).strip().lower()
        if word in yes:
            return True
        return False if word in no or (not no and word not in ("", ".")) else None

    return [judge(label) for label in labels]


def _with_table(alleles: pd.DataFrame, known: Truth) -> pd.DataFrame:
    fields = {"truth": known.truth, "label": known.label, "consequence": known.consequence}
    fields = {column: name for column, name in fields.items() if name}
    table = _read_table(known.table)
    for name in [*ALLELE, *fields.values()]:
        if name not in table.columns:
            there = ", ".join(map(str, table.columns))
            raise InputError(f"{known.table}: has no column {name!r}; its columns are {there}")
    contigs = set(alleles["chrom"])
    try:
        keys = {
            "chrom": [match_contig(str(name), contigs) or str(name) for name in table["chrom"]],
            "pos": table["pos"].astype("int64"),
            "ref": table["ref"].astype(str),
            "alt": table["alt"].astype(str),
        }
        values = {column: table[name] for column, name in fields.items()}
        if known.truth:
            values["truth"] = table[known.truth].replace({"": None, ".": None}).astype("float64")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{known.table}: pos and {known.truth or 'the truth'} are to be numbers: {error}"
        ) from error
    table = pd.DataFrame(keys | values)
    twice = table[table.duplicated(ALLELE)]
    if len(twice):
        allele = "{chrom}:{pos} {ref}>{alt}".format(**twice.iloc[0])
        raise InputError(f"{known.table}: {allele} stands there twice; leave one")
    return alleles.merge(table, "left", ALLELE, validate="m:1")


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if Path(path).suffix == ".parquet":
            return pq.read_table(path).to_pandas()
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error


def _with_trivial_scores(alleles: pd.DataFrame, known: Truth) -> tuple[pd.DataFrame, list[str]]:
    """Add what the letters around and the annotation say; names of the columns that hold scores."""
    if not known.reference:
        return alleles, []
    with Reference(known.reference) as reference:
        scored = alleles[alleles["llr"].notna()]
        found = sequence_scores(scored, reference)
        if known.gff:
            said = annotate(scored, Annotation(known.gff, reference))
            found["splice_distance"] = said["splice_distance"]
            if not known.consequence:
                found["consequence"] = said["consequence"]
    alleles = alleles.join(found)
    names = [name for name in ("low_gc", "mutability", "splice_distance") if name in alleles]
    return alleles, [name for name in names if alleles[name].notna().any()]
