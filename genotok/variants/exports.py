"""Scores in the layouts of other tools: TraitGym's Parquet, and the tab-separated table of CADD."""

import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pysam

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.variants.fields import LLR
from genotok.variants.same_files import refuse_same_files
from genotok.variants.vcf_input import INFO, Record, VcfInput, open_vcf
from genotok.variants.vcf_output import COMPRESSION_LEVEL, TABIX_LONGEST

TRAITGYM_SCHEMA = pa.schema(
    [
        ("chrom", pa.string()),
        ("pos", pa.int64()),
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("score", pa.float64()),
        ("minus_llr", pa.float64()),
        ("abs_llr", pa.float64()),
    ]
)
CADD_COLUMNS = "#Chrom\tPos\tRef\tAlt\tRawScore"
_ALLELE = ["chrom", "pos", "ref", "alt"]


def read_scored_alleles(scored_vcf: Path) -> pd.DataFrame:
    """The alleles of a scored VCF that have a score, sorted; an allele of several records once.

    Contigs come in the order of their first records, within them positions ascend, then REF and ALT.

    Returns:
        `chrom`, `pos` (1-based), `ref`, `alt`, `llr` (nats).

    Raises:
        InputError: the file cannot be read, or was not scored.
    """
    rows: list[tuple[str, int, str, str, float]] = []
    with open_vcf(scored_vcf) as source:
        if not any(line.startswith(f"##INFO=<ID={LLR},".encode()) for line in source.header.scores):
            raise InputError(f"{scored_vcf}: its header has no {LLR}; let `genotok score` write it first")
        for record in source:
            rows += _scored(record, source)
    table = pd.DataFrame(rows, columns=[*_ALLELE, "llr"])
    table["contig"] = pd.factorize(table["chrom"])[0]
    table = table.sort_values(["contig", "pos", "ref", "alt"], kind="stable").drop_duplicates(_ALLELE)
    return table.drop(columns="contig").reset_index(drop=True)


def _scored(record: Record, source: VcfInput) -> list[tuple[str, int, str, str, float]]:
    start = f"{LLR}=".encode()
    found = [entry for entry in record.columns[INFO].split(b";") if entry.startswith(start)]
    if not found:
        return []
    alts, values = record.alts, found[0][len(start) :].split(b",")
    place = f"{source.label}: {record.contig}:{record.position}"
    if len(alts) != len(values):
        raise InputError(
            f"{place}: {LLR} holds {len(values)} values for {len(alts)} ALT alleles; score it again"
        )
    ref = record.ref.decode()
    try:
        return [
            (record.contig, record.position, ref, alt.decode(), float(value))
            for alt, value in zip(alts, values, strict=True)
            if value != b"."
        ]
    except ValueError as error:
        raise InputError(f"{place}: {LLR} holds what is no number; score it again") from error


def export_traitgym(scored_vcf: Path, output: Path) -> int:
    """Write scores as a feature table of TraitGym, its alleles in the order of `read_scored_alleles`.

    The columns `chrom`, `pos` (1-based), `ref` and `alt` name the allele; `score` and `minus_llr` are -LLR, high for
    an allele that the model finds unlikely, and `abs_llr` is |LLR|. TraitGym joins features by row: `pos` and the
    alleles say which those are, should some have no score.

    Returns:
        The number of alleles.

    Raises:
        InputError: the VCF cannot be read or was not scored, or the output cannot be written.
    """
    refuse_same_files((scored_vcf,), (output,))
    table = read_scored_alleles(scored_vcf)
    minus = 0.0 - table["llr"]
    table = table.assign(score=minus, minus_llr=minus, abs_llr=minus.abs()).drop(columns="llr")
    with atomic_path(output) as path:
        pq.write_table(pa.Table.from_pandas(table, TRAITGYM_SCHEMA, preserve_index=False), path)
    return len(table)


def export_cadd(scored_vcf: Path, output: Path) -> int:
    """Write scores in the layout of CADD's tables: BGZF with a tabix index, sorted, one row an allele.

    `RawScore` is -LLR in nats: as with CADD, higher is more harmful. There is no column PHRED, which would rank
    the allele among all of a genome's.

    Returns:
        The number of alleles.

    Raises:
        InputError: the VCF cannot be read or was not scored, or the output is not called `*.gz` or cannot be
            written.
    """
    if not str(output).endswith(".gz"):
        raise InputError(f"{output}: the table is compressed, so its name must end in .gz")
    refuse_same_files((scored_vcf,), (output,))
    table = read_scored_alleles(scored_vcf)
    far = not table.empty and int(table["pos"].max()) >= TABIX_LONGEST
    suffix = ".csi" if far else ".tbi"
    with atomic_path(output) as path, atomic_path(f"{output}{suffix}") as index:
        with pysam.BGZFile(str(path), f"wb{COMPRESSION_LEVEL}") as sink:
            sink.write(f"{_origin(scored_vcf)}\n{CADD_COLUMNS}\n".encode())
            sink.write("".join(map(_cadd_line, table.itertuples(index=False))).encode())
        columns = {"seq_col": 0, "start_col": 1, "end_col": 1, "meta_char": "#"}
        pysam.tabix_index(str(path), index=str(index), csi=far, force=True, keep_original=True, **columns)
        for old in {".tbi", ".csi"} - {suffix}:
            with suppress(FileNotFoundError):
                os.unlink(f"{output}{old}")
    return len(table)


def _cadd_line(row: tuple) -> str:
    chrom, pos, ref, alt, llr = row
    return f"{chrom}\t{pos}\t{ref}\t{alt}\t{0.0 - llr:.6g}\n"


def _origin(scored_vcf: Path) -> str:
    """A line on how the scores were made, of the VCF's header."""
    with open_vcf(scored_vcf) as source:
        lines = [line.decode("utf-8", "replace") for line in source.header.scores]
    wanted = ("##genotok_version=", "##genotok_model_sha256=", "##genotok_window=")
    return "## " + " ".join(line.removeprefix("##") for line in lines if line.startswith(wanted))
