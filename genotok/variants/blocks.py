"""What is done with a block of records before and after its windows have been scored.

Workers import this room's part that needs no model; see `genotok.variants.score` for the whole.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.variants.alleles import STATUSES
from genotok.variants.fields import (
    DEFAULT_FIELDS,
    HAPLOTYPE_FIELDS,
    STATUS,
    ScoreField,
    Value,
    info_text,
)
from genotok.variants.haplotypes import Phaser, haplotype_values
from genotok.variants.judge import Judge
from genotok.variants.plans import Plan, Planner, PlanTask
from genotok.variants.snv_windows import snv_windows
from genotok.variants.table import Row
from genotok.variants.vcf_header import with_scores
from genotok.variants.vcf_input import INFO, Block, Record
from genotok.variants.vcf_output import Stretch, stretches


@dataclass
class Allele:
    """One ALT allele: its status, the places of its pairs of windows in the pool, and what was found of each.

    `found` holds the ratio and the optional fields of each strand.
    """

    status: str
    pairs: list[int] = field(default_factory=list)
    found: list[list[float]] = field(default_factory=list)

    def values(self, fields: Sequence[ScoreField]) -> list[Value]:
        """What the fields hold, numbers to 6 significant digits; None for what is not there."""
        optional = len(fields) - len(DEFAULT_FIELDS)
        if not self.found:
            return [None, None, None, self.status, *[None] * optional]
        forward, reverse = (*(ratio for ratio, *_ in self.found), None)[:2]
        llr, *means = (sum(strands) / len(strands) for strands in zip(*self.found, strict=True))
        return [*map(_six_digits, (llr, forward, reverse)), self.status, *map(_six_digits, means)]


class Task(NamedTuple):
    """How a VCF's records are to be worked on.

    Attributes:
        label: how error sentences call the VCF.
        columns: how many columns its header has.
        reference: the FASTA.
        window: letters a window.
        both_strands: whether windows of the reverse strand are wanted.
        ref_mismatch: see `genotok.variants.judge.Judge`.
        aliases: see `genotok.variants.judge.Judge`.
        horizon: see `genotok.variants.judge.Judge`.
        sample: on whose haplotypes alleles are scored as well, or None.
        sample_column: see `genotok.variants.haplotypes.Phaser`.
        unphased: see `genotok.variants.haplotypes.Phaser`.
        with_rows: whether rows of a table are wanted.
        fields: those that each allele gets.
    """

    label: str
    columns: int
    reference: Path
    window: int
    both_strands: bool
    ref_mismatch: str
    aliases: dict[str, str]
    horizon: int | None
    sample: str | None
    sample_column: int
    unphased: str
    with_rows: bool
    fields: tuple[ScoreField, ...] = DEFAULT_FIELDS

    @property
    def values(self) -> int:
        """How many values are found of each pair of windows: the ratio, and the optional fields."""
        return 1 + len(self.fields) - len(DEFAULT_FIELDS)

    def judge(self, reference: Reference) -> Judge:
        """Who decides about alleles."""
        return Judge(reference, self.window, self.both_strands, self.ref_mismatch, self.aliases, self.horizon)

    def phaser(self, judge: Judge) -> Phaser | None:
        """Who decides about alleles on haplotypes, where that is wanted."""
        return None if self.sample is None else Phaser(judge, self.sample, self.sample_column, self.unphased)


class ScoredBlock(NamedTuple):
    """A block's records with their scores, ready to be written.

    Attributes:
        text: their lines.
        stretches: where they lie.
        rows: of the table, where one is wanted.
        records: how many they are.
        counts: status -> how many ALT alleles have it; a record without ALT counts once, as `missing`.
        patched: how many records' REF took the place of the FASTA's letters.
        unknown_contigs: the names that the FASTA has not.
        on_haplotypes: status on the sample's haplotypes -> how many ALT alleles have it.
    """

    text: bytes
    stretches: list[Stretch]
    rows: list[Row]
    records: int
    counts: dict[str, int]
    patched: int
    unknown_contigs: list[str]
    on_haplotypes: dict[str, int]


class _Prepared(NamedTuple):
    """What a desk remembers of a block until its scores come."""

    records: list[Record]
    snvs: np.ndarray  # which records are plain, and how many alleles each of those has
    alleles_of_snvs: np.ndarray
    alleles: dict[int, list[Allele]]  # of the other records
    carried: list[
        list[tuple[str, list[list[int]]]]
    ]  # statuses and pairs of the haplotypes, where they are wanted
    patched: int
    unknown_contigs: list[str]


class Desk:
    """Makes plans of blocks of records, and text of their scores, in the same order.

    Args:
        task: how records are to be worked on.
        plans: what the model wants.
    """

    def __init__(self, task: Task, plans: PlanTask):
        self.task = task
        self._plans = plans
        self._judge = task.judge(Reference(task.reference))
        self._phaser = task.phaser(self._judge)
        self._waiting: dict[int, _Prepared] = {}

    def prepare(self, number: int, block: Block) -> Plan:
        """What is to be run for the block of this number.

        Raises:
            InputError: a line is no record, or REF is not the FASTA's and this is to be an error.
        """
        judge, planner = self._judge, self._plans.planner()
        judge.patched, judge.unknown_contigs = 0, []
        records = list(block.records(self.task.columns, self.task.label))
        snvs = snv_windows(records, judge)
        planner.add_snvs(snvs)
        plain = set(snvs.chosen.tolist())
        alleles = {
            i: [Allele(status, list(map(planner.add, pairs))) for status, pairs in judge.judge(record)]
            for i, record in enumerate(records)
            if i not in plain
        }
        carried = self._on_haplotypes(records, alleles, planner) if self._phaser else []
        waiting = _Prepared(
            records, snvs.chosen, snvs.alleles, alleles, carried, judge.patched, judge.unknown_contigs
        )
        self._waiting[number] = waiting
        return planner.plan()

    def _on_haplotypes(
        self, records: list[Record], alleles: dict[int, list[Allele]], planner: Planner
    ) -> list[list[tuple[str, list[list[int]]]]]:
        """Plan the windows on haplotypes."""
        return [
            [
                (status, [list(map(planner.add, pairs)) for pairs in haplotypes])
                for status, haplotypes in self._phaser.judge_alleles(
                    record,
                    [allele.status for allele in alleles[i]] if i in alleles else ["ok"] * len(record.alts),
                )
            ]
            for i, record in enumerate(records)
        ]

    def finish(self, number: int, scores: np.ndarray) -> ScoredBlock:
        """The block of this number with its scores.

        Args:
            number: as `prepare` was told it; the block is forgotten.
            scores: (pairs x values,) float64.

        Raises:
            InputError: a score is no number.
        """
        block = self._waiting.pop(number)
        strands = 1 + self.task.both_strands
        fields, scores = self.task.fields, scores.reshape(-1, self.task.values)
        of_snvs = scores[: block.alleles_of_snvs.sum() * strands].reshape(-1, strands, self.task.values)
        _write_snvs(block, of_snvs, fields)
        rows: list[Row] = []
        counts = Counter(dict.fromkeys(STATUSES, 0), ok=len(of_snvs))
        for i, alleles in block.alleles.items():
            record = block.records[i]
            for allele in alleles:
                allele.found = [_numbers(scores[pair], record) for pair in allele.pairs]
            values = [allele.values(fields) for allele in alleles]
            record.columns[INFO] = with_scores(record.columns[INFO], info_text(fields, values))
            counts.update(allele.status for allele in alleles)
            counts["missing"] += not alleles
        on_haplotypes = self._write_haplotypes(block, scores)
        if self.task.with_rows:
            found = iter(of_snvs.tolist())
            of = block.alleles | {
                i: [Allele("ok", [], next(found)) for _ in range(count)]
                for i, count in zip(block.snvs.tolist(), block.alleles_of_snvs.tolist(), strict=True)
            }
            rows = [
                row
                for i, record in enumerate(block.records)
                for row in _table_rows(
                    record, [allele.values(fields) for allele in of[i]], on_haplotypes.get(i)
                )
            ]
        return ScoredBlock(
            b"".join([record.line for record in block.records]),
            stretches(block.records),
            rows,
            len(block.records),
            dict(counts),
            block.patched,
            block.unknown_contigs,
            dict(Counter(status for alleles in on_haplotypes.values() for *_, status in alleles)),
        )

    def _write_haplotypes(self, block: _Prepared, scores: np.ndarray) -> dict[int, list[list[Value]]]:
        """Put what was found on haplotypes into the records; returns the values of each one's alleles."""
        found = {}
        for i, (record, alleles) in enumerate(zip(block.records, block.carried, strict=bool(block.carried))):
            values = [haplotype_values(status, _ratios(places, scores, record)) for status, places in alleles]
            found[i] = [[*map(_six_digits, means), status] for *means, status in values]
            info = info_text(HAPLOTYPE_FIELDS, found[i])
            record.columns[INFO] += b";" * bool(info) + info
        return found


def _write_snvs(block: _Prepared, found: np.ndarray, fields: Sequence[ScoreField]) -> None:
    """Put what was found (alleles, strands, values) of plain variants into their records, as `info_text` would."""
    counts, ends = block.alleles_of_snvs, np.cumsum(block.alleles_of_snvs)
    for allele in np.flatnonzero(~np.isfinite(found).all((1, 2)))[:1]:
        _numbers(found[allele], block.records[block.snvs[np.searchsorted(ends, allele, "right")]])
    scores, optional = found[:, :, 0], found[:, :, 1:]
    numbers = [scores.sum(1) / scores.shape[1], scores, optional.sum(1) / scores.shape[1]]
    numbers = np.column_stack(numbers) + 0.0  # never -0
    for count in np.unique(counts).tolist():
        rows = np.flatnonzero(counts == count)
        of_records = numbers[(ends[rows] - count)[:, None] + np.arange(count)]
        pattern = _snv_pattern(fields, scores.shape[1], count)
        values = of_records.transpose(0, 2, 1).reshape(len(rows), -1).tolist()
        for i, row in zip(block.snvs[rows].tolist(), values, strict=True):
            columns = block.records[i].columns
            columns[INFO] = with_scores(columns[INFO], pattern % tuple(row))


def _snv_pattern(fields: Sequence[ScoreField], strands: int, alleles: int) -> bytes:
    """INFO of a plain variant, its numbers to be filled in field by field."""
    filled = [*fields[: 1 + strands], *fields[len(DEFAULT_FIELDS) :]]
    texts = {STATUS: "ok"} | {field.info: "%.6g" for field in filled}
    return ";".join(f"{f.info}={','.join([texts.get(f.info, '.')] * alleles)}" for f in fields).encode()


def _ratios(places: list[list[int]], scores: np.ndarray, record: Record) -> list[list[float]]:
    return [[_numbers(scores[place], record)[0] for place in of_haplotype] for of_haplotype in places]


def _numbers(found: np.ndarray, record: Record) -> list[float]:
    if not np.isfinite(found).all():
        raise InputError(
            f"{record.contig}:{record.position}: the model's likelihood there is no number; try precision fp32, "
            "or another checkpoint of the model"
        )
    return found.tolist()


def _six_digits(value: float | None) -> float | None:
    """A number as the VCF shows it, never -0."""
    return None if value is None else float(f"{value:.6g}") + 0.0


def _table_rows(
    record: Record, alleles: list[list[Value]], on_haplotypes: list[list[Value]] | None
) -> list[Row]:
    ref = record.ref.decode("utf-8", "replace")
    further = on_haplotypes or [[]] * len(alleles)
    return [
        (record.contig, record.position, ref, alt.decode("utf-8", "replace"), *values, *more)
        for alt, values, more in zip(record.alts, alleles, further, strict=True)
    ]
