"""Scores from a Parquet file, joined allele by allele with what the INFO fields of the VCF say."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pysam

from genotok.errors import InputError
from genotok.progress import progress

ALLELE = ["chrom", "pos", "ref", "alt"]
COLUMNS = [*ALLELE, "llr", "llr_fwd", "llr_rc", "status"]


def read_scores(parquet: Path) -> pd.DataFrame:
    """The table that `genotok score --parquet` wrote: one row an allele, NaN where it has no score.

    Raises:
        InputError: the file cannot be read or lacks a column.
    """
    try:
        schema = pq.read_schema(parquet)
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            raise InputError(f"{parquet}: has no column {missing[0]!r}; give the table of `genotok score`")
        table = pq.read_table(parquet, columns=COLUMNS).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{parquet}: cannot be read as Parquet: {error}") from error
    kinds = {"chrom": str, "pos": "int64", "ref": str, "alt": str, "status": str}
    return table.astype(kinds | dict.fromkeys(["llr", "llr_fwd", "llr_rc"], "float64"))


def read_alleles(
    parquet: Path,
    scored_vcf: Path,
    truth_field: str | None,
    consequence_field: str | None,
    label_field: str | None = None,
) -> pd.DataFrame:
    """The scores with the columns `truth` (float64), `consequence` and `label` for the fields that are given.

    Alleles that occur several times are joined in their order.

    Args:
        parquet: one row an allele, positions 1-based.
        scored_vcf: of the same scoring.
        truth_field: an INFO field of numbers, `Number=A`, or None.
        consequence_field: an INFO field, `Number=A`, or None.
        label_field: an INFO field of any type, or None. One that is no `Number=A` holds for all alleles of its
            record, its values joined by commas; a flag is True or False.

    Raises:
        InputError: a file cannot be read, the VCF has no such field for each allele, or a scored allele of
            the table is not in the VCF.
    """
    scores = read_scores(parquet)
    fields = {"truth": truth_field, "consequence": consequence_field, "label": label_field}
    fields = {column: name for column, name in fields.items() if name}
    if not fields:
        return scores
    known = _read_fields(scored_vcf, fields, len(scores))
    for table in (scores, known):
        table["occurrence"] = table.groupby(ALLELE).cumcount()
    joined = scores.merge(known, "left", [*ALLELE, "occurrence"], validate="1:1", indicator="found")
    strange = joined[(joined["found"] == "left_only") & joined["llr"].notna()]
    if len(strange):
        allele = "{chrom}:{pos} {ref}>{alt}".format(**strange.iloc[0])
        raise InputError(f"{parquet}: {allele} is not in {scored_vcf}; give the two files of one scoring")
    return joined.drop(columns=["occurrence", "found"])


def _read_fields(scored_vcf: Path, fields: dict[str, str], alleles: int) -> pd.DataFrame:
    """One row an allele of the VCF, with the values of some INFO fields."""
    columns: dict[str, list] = {name: [] for name in [*ALLELE, *fields]}
    with open_vcf(scored_vcf) as vcf, progress("join", alleles, "alleles") as bar:
        for column, name in fields.items():
            _check_field(scored_vcf, vcf.header, name, column)
        try:
            for record in vcf:
                alts = record.alts or ()
                for column, values in zip(ALLELE, (record.chrom, record.pos, record.ref), strict=False):
                    columns[column] += [values] * len(alts)
                columns["alt"] += alts
                for column, name in fields.items():
                    each = column != "label" or vcf.header.info[name].number == "A"
                    read = _values if each else _common_value
                    columns[column] += read(scored_vcf, record, name, len(alts))
                bar.advance(len(alts))
        except (OSError, ValueError) as error:
            raise InputError(f"{scored_vcf}: cannot be read behind allele {bar.done}: {error}") from error
    kinds = {"chrom": str, "pos": "int64", "ref": str, "alt": str, "truth": "float64"}
    kinds |= {"consequence": object, "label": object}
    return pd.DataFrame(columns).astype({name: kinds[name] for name in columns})


def _values(path: Path, record: pysam.VariantRecord, name: str, alleles: int) -> list:
    """The values of an INFO field, None where there is none."""
    values = [None if value == "." else value for value in record.info.get(name, ())]
    if not any(value is not None for value in values):
        return [None] * alleles
    if len(values) != alleles:
        place = f"{record.chrom}:{record.pos}"
        raise InputError(
            f"{path}: {place}: {name} holds {len(values)} values for {alleles} ALT alleles; mend it"
        )
    return values


def _common_value(path: Path, record: pysam.VariantRecord, name: str, alleles: int) -> list:
    """The value of an INFO field of the whole record, once for each allele."""
    value = record.info.get(name)
    if record.header.info[name].type == "Flag":
        return [bool(value)] * alleles
    if isinstance(value, tuple):
        known = [str(part) for part in value if part not in (None, ".")]
        value = ",".join(known) or None
    return [None if value == "." else value] * alleles


def open_vcf(path: Path) -> pysam.VariantFile:
    """Open a VCF for its INFO fields; the samples are left out.

    Raises:
        InputError: it cannot be read.
    """
    try:
        vcf = pysam.VariantFile(str(path))
        vcf.subset_samples([])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as VCF: {error}") from error
    return vcf


def _check_field(path: Path, header: pysam.VariantHeader, name: str, column: str) -> None:
    if name not in header.info:
        there = ", ".join(sorted(header.info)) or "none"
        raise InputError(f"{path}: its header has no INFO field {name}; it has {there}")
    field = header.info[name]
    if field.number != "A" and column != "label":
        raise InputError(
            f"{path}: INFO field {name} has Number={field.number}; a value for each ALT (A) is needed"
        )
    if column == "truth" and field.type not in ("Float", "Integer"):
        raise InputError(f"{path}: INFO field {name} holds text (Type={field.type}); numbers are needed")


def about_scoring(scored_vcf: Path) -> dict[str, str]:
    """What the header of a scored VCF says about the scoring: its lines `##genotok_<key>=<value>`."""
    with open_vcf(scored_vcf) as vcf:
        lines = [(line.key, line.value) for line in vcf.header.records if line.type == "GENERIC"]
    return {key.removeprefix("genotok_"): value for key, value in lines if key.startswith("genotok_")}
