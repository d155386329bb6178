"""Scores on the haplotypes of a sample: REF and ALT windows that both hold the variants around.

A scored allele's windows are those of a haplotype that carries it: REF is the haplotype without the allele. Of the
records around, those are applied that the sample is known to carry on the same haplotype:

- Homozygous alleles are on both haplotypes. Heterozygous ones count where they are phased (`|`) and of the scored
  record's phase set (PS; genotypes without PS are of one set). A homozygous record without PS takes part in the set
  of the nearest phased heterozygous record.
- Anything else heterozygous is left out, as is a genotype of another ploidy than the scored one's; a missing genotype
  is read as REF.
- An edit is the letters that an allele changes, without common start, then without common end. The scored allele's
  edit comes first, then the others' in the order of the file; one that touches a letter of an earlier one, or is
  inserted where another one is, is left out. So is an allele that is not spelled out, has ambiguous letters, or
  whose REF is not the FASTA's. `*` changes nothing: its deletion is a record of its own.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from genotok.errors import InputError
from genotok.variants.alleles import Edit, is_certain, is_symbolic, left_align, reverse_edit, spelled
from genotok.variants.fields import Value
from genotok.variants.judge import Judge
from genotok.variants.letters import ContigLetters, EditedStrand, PatchedStrand, ReverseStrand
from genotok.variants.vcf_input import BLOCK_RECORDS, INFO, Record
from genotok.variants.windows import WindowPair, window_pairs

# Why an allele has scores on haplotypes, or none; the first that applies counts. Behind the statuses of
# `genotok.variants.alleles`, which come first:
#   not_carried         the sample has the allele on no haplotype, or its genotype is missing
#   unphased            the sample's genotype is heterozygous and unphased; no score
#   unphased_neighbour  scored without a variant in the window that is heterozygous, and not phased with this one
#   skipped_neighbour   scored without a variant in the window that overlaps another one or cannot be applied
HAPLOTYPE_STATUSES = ("ok", "not_carried", "unphased", "unphased_neighbour", "skipped_neighbour")
UNPHASED = ("skip", "error")
_FORMAT = INFO + 1


class Genotype(NamedTuple):
    """A sample's alleles (0 = REF, None = missing), whether they are phased, and the phase set."""

    alleles: tuple[int | None, ...]
    phased: bool
    phase_set: bytes | None

    @property
    def is_homozygous(self) -> bool:
        """Whether all haplotypes carry the same, known allele."""
        return None not in self.alleles and len(set(self.alleles)) == 1


class Call(NamedTuple):
    """A record as the sample carries it.

    Attributes:
        start: where REF begins, 0-based.
        end: position behind REF, or behind what a symbolic allele spans.
        genotype: of the sample; at least one allele is an ALT.
        edits: of each ALT allele; None where it cannot be applied.
    """

    start: int
    end: int
    genotype: Genotype
    edits: tuple[Edit | None, ...]


class PhasedRecord(Record):
    """A record with the sample's call, None without an ALT allele, and the calls around, in the file's order."""

    __slots__ = ("call", "neighbours")

    def __init__(self, record: Record, call: Call | None, neighbours: Sequence[Call]):
        self.columns, self.call, self.neighbours = record.columns, call, neighbours


class CarriedAllele(NamedTuple):
    """An allele's status, and its pairs of windows, one a strand, on haplotype 1 and on haplotype 2."""

    status: str
    haplotypes: tuple[list[WindowPair], list[WindowPair]] = ([], [])


class PhasedBlock(NamedTuple):
    """Records in the place of a `genotok.variants.vcf_input.Block`."""

    found: list[PhasedRecord]

    def records(self, columns: int, label: str) -> list[PhasedRecord]:
        """The records, which have been read before."""
        return self.found


def phased_blocks(records: Iterable[PhasedRecord], alleles: int, size: int) -> Iterator[PhasedBlock]:
    """Records in their order, as blocks that end where those of `genotok.variants.vcf_input.VcfInput.blocks` do."""
    block, found, length = [], 0, 0
    for number, record in enumerate(records, 1):
        block.append(record)
        found += max(1, len(record.alts))
        length += sum(map(len, record.columns))
        if number % BLOCK_RECORDS == 0 or found >= alleles or length >= size:
            yield PhasedBlock(block)
            block, found, length = [], 0, 0
    if block:
        yield PhasedBlock(block)


def reach(window: int) -> int:
    """How many letters to either side of a record others are looked at, deleted letters not counted."""
    return 2 * window


def sample_column(sample: str | None, samples: Sequence[str]) -> int:
    """The column of a sample behind FORMAT's, which is 0; 0 where no sample is asked for.

    Raises:
        InputError: there is no such sample.
    """
    if sample is None:
        return 0
    if sample not in samples:
        known = ", ".join(samples[:5]) + " ..." * (len(samples) > 5)
        raise InputError(f"haplotypes: the VCF has no sample {sample}; it has {known or 'none'}")
    return 1 + samples.index(sample)


class Phaser:
    """Applies a sample's phased variants to each other's windows.

    Args:
        judge: judges the same records without haplotypes.
        sample: the sample's name.
        column: of the sample, as `sample_column` finds it.
        unphased: `skip` gives a status to an allele whose phase, or whose neighbour's phase, is unknown; `error`
            raises.
    """

    def __init__(self, judge: Judge, sample: str, column: int, unphased: str = "skip"):
        self.judge, self.sample, self.unphased = judge, sample, unphased
        self._column = column

    def phased(self, records: Iterable[Record]) -> Iterator[PhasedRecord]:
        """The records with those around, as far as two windows on either side; deleted letters do not count.

        Raises:
            InputError: the records are not sorted, or a genotype cannot be read.
        """
        seen = set()
        for contig, group in groupby(records, key=lambda record: record.contig):
            if contig in seen:
                raise InputError(f"{contig}: its records are not in one piece; sort the VCF for --haplotypes")
            seen.add(contig)
            yield from _with_neighbours(self._calls(group), reach(self.judge.window))

    def _calls(self, records: Iterable[Record]) -> Iterator[tuple[Record, Call | None]]:
        latest = 0
        for record in records:
            if record.position < latest:
                raise InputError(
                    f"{record.contig}:{record.position}: stands behind position {latest}; sort the VCF for "
                    "--haplotypes"
                )
            latest = record.position
            yield record, self._call(record)

    def _call(self, record: Record) -> Call | None:
        genotype = self._genotype(record)
        if genotype is None or not any(genotype.alleles):
            return None
        if max(filter(None, genotype.alleles)) > len(record.alts) or len(genotype.alleles) > 2:
            raise InputError(
                f"{record.contig}:{record.position}: the genotype of {self.sample} has more than two alleles, or one "
                "that the record has not; --haplotypes is for haploid and diploid genotypes"
            )
        start, ref, contig = record.position - 1, spelled(record.ref), self.judge.contig(record.contig)
        usable = contig is not None and is_certain(ref) and contig.fetch(start, start + len(ref)) == ref
        edits = tuple(
            _edit(start, ref, spelled(alt)) if usable or alt == b"*" else None for alt in record.alts
        )
        return Call(start, end_of(record), genotype, edits)

    def _genotype(self, record: Record) -> Genotype | None:
        if len(record.columns) <= _FORMAT:
            return None
        columns = record.columns[_FORMAT].split(b"\t", self._column + 1)
        keys, values = columns[0].split(b":"), columns[self._column].split(b":")
        found = dict(zip(keys, values, strict=False))
        text = found.get(b"GT", b".").lstrip(b"|/")
        phased = b"/" not in text
        try:
            alleles = tuple(
                None if allele == b"." else int(allele) for allele in text.replace(b"/", b"|").split(b"|")
            )
        except ValueError:
            raise InputError(
                f"{record.contig}:{record.position}: the genotype of {self.sample} is "
                f"{text.decode('utf-8', 'replace')!r}, which is none"
            ) from None
        phase_set = found.get(b"PS")
        return Genotype(alleles, phased, None if phase_set == b"." else phase_set)

    def judge_alleles(self, record: PhasedRecord, statuses: Sequence[str]) -> list[CarriedAllele]:
        """The windows of each ALT allele on the haplotypes that carry it.

        Args:
            record: as `phased` gives it.
            statuses: of the alleles without haplotypes.

        Raises:
            InputError: a phase is unknown, and that is to be an error.
        """
        return [
            self._judge_allele(record, number) if status == "ok" else CarriedAllele(status)
            for number, status in enumerate(statuses, 1)
        ]

    def _judge_allele(self, record: PhasedRecord, number: int) -> CarriedAllele:
        call = record.call
        if call is None or number not in call.genotype.alleles:
            return CarriedAllele("not_carried")
        if not (call.genotype.phased or call.genotype.is_homozygous):
            self._complain(record, "is heterozygous and unphased")
            return CarriedAllele("unphased")
        neighbours = _aligned(call, record.neighbours)
        pairs: tuple[list[WindowPair], list[WindowPair]] = ([], [])
        found = {"ok"}
        for haplotype, carried in enumerate(call.genotype.alleles):
            if carried == number:
                status, windows = self._windows(record, number, haplotype, neighbours)
                found.add(status)
                pairs[haplotype].extend(windows)
        if "unphased_neighbour" in found:
            self._complain(record, "is next to one whose phase to it is unknown")
        status = next(s for s in ("unphased_neighbour", "skipped_neighbour", "ok") if s in found)
        return CarriedAllele(status, pairs)

    def _complain(self, record: Record, what: str) -> None:
        if self.unphased == "error":
            raise InputError(
                f"{record.contig}:{record.position}: the genotype of {self.sample} {what}; phase the VCF, or use "
                "--unphased skip"
            )

    def _windows(
        self,
        record: PhasedRecord,
        number: int,
        haplotype: int,
        neighbours: Sequence[tuple[Call, list[int] | None]],
    ) -> tuple[str, list[WindowPair]]:
        """The status of an allele on one haplotype, and its pairs of windows."""
        start, ref = record.position - 1, spelled(record.ref)
        contig: ContigLetters = self.judge.contig(record.contig)
        if contig.fetch(start, start + len(ref)) != ref:
            contig = PatchedStrand(contig, start, ref)
        scored = _edit(start, ref, spelled(record.alts[number - 1]))
        applied, unphased, skipped = [scored], [], []
        for call, alleles in neighbours:
            if alleles is None:
                unphased.append(call)
            elif alleles[haplotype]:
                edit = call.edits[alleles[haplotype] - 1]
                if edit is None or any(_overlap(edit, other) for other in applied):
                    skipped.append(call)
                elif edit.ref or edit.alt:
                    applied.append(edit)
        others = sorted(applied[1:], key=lambda edit: (edit.start, edit.start + len(edit.ref)))
        strand = EditedStrand(contig, others)
        moved = sum(len(edit.alt) - len(edit.ref) for edit in others if _in_front(edit, scored))
        edit = left_align(scored._replace(start=scored.start + moved), strand)
        cut = (self.judge.window, self.judge.both_strands, self.judge.horizon)
        first, last = (strand.before_edits(place) for place in _span(edit, strand, *cut))
        pairs = window_pairs(edit, strand, *cut)
        for status, calls in (("unphased_neighbour", unphased), ("skipped_neighbour", skipped)):
            if any(call.start < last and call.end > first for call in calls):
                return status, pairs
        return "ok", pairs


def haplotype_values(status: str, ratios: Sequence[Sequence[float]]) -> list[Value]:
    """What `genotok.variants.fields.HAPLOTYPE_FIELDS` hold of an allele; None for what is not there.

    Args:
        status: of the allele.
        ratios: on haplotype 1 and 2, on each scored strand.
    """
    return [*(sum(found) / len(found) if found else None for found in ratios), status]


def _edit(start: int, ref: bytes, alt: bytes) -> Edit | None:
    """What an allele changes, as it is written; None where it is not spelled out or ambiguous."""
    if alt == b"*":
        return Edit(start, b"", b"")
    if is_symbolic(alt) or not is_certain(alt):
        return None
    same = _common_start(ref, alt)
    start, ref, alt = start + same, ref[same:], alt[same:]
    same = _common_start(ref[::-1], alt[::-1])
    return Edit(start, ref[: len(ref) - same], alt[: len(alt) - same])


def _common_start(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def end_of(record: Record) -> int:
    """The position behind a record, by its END where an allele is symbolic."""
    end = record.position - 1 + len(record.ref)
    if any(alt.startswith(b"<") for alt in record.alts):
        for entry in record.columns[INFO].split(b";"):
            key, _, value = entry.partition(b"=")
            if key == b"END" and value.isdigit():
                end = max(end, int(value))
    return end


def _with_neighbours(records: Iterator[tuple[Record, Call | None]], reach: int) -> Iterator[PhasedRecord]:
    """The records of one contig with the calls around them."""
    behind: list[Call] = []
    ahead: deque[tuple[Record, Call | None]] = deque()
    following = next(records, None)
    while ahead or following:
        if not ahead:
            ahead.append(following)
            following = next(records, None)
        record, call = ahead[0]
        limit = record.position - 1 + len(record.ref) + reach
        limit += sum(_deleted(later) for _, later in ahead if later)
        while following and following[0].position <= limit:
            ahead.append(following)
            limit += _deleted(following[1]) if following[1] else 0
            following = next(records, None)
        ahead.popleft()
        if call:
            behind = _within(behind, record.position - 1, reach)
            yield PhasedRecord(record, call, (*behind, *(later for _, later in ahead if later)))
            behind.append(call)
        else:
            yield PhasedRecord(record, None, ())


def _within(calls: list[Call], position: int, reach: int) -> list[Call]:
    """Calls that reach to within `reach` letters in front of a position, where deleted letters do not count."""
    deleted, kept = 0, []
    for call in reversed(calls):
        if position - call.end <= reach + deleted:
            kept.append(call)
            deleted += _deleted(call)
    return kept[::-1]


def _deleted(call: Call) -> int:
    """The most letters by which the call makes a haplotype shorter."""
    return max(max(len(edit.ref) - len(edit.alt), 0) if edit else 0 for edit in call.edits)


def _aligned(call: Call, neighbours: Sequence[Call]) -> list[tuple[Call, list[int] | None]]:
    """What each haplotype of a call carries of its neighbours: allele numbers, or None where that is unknown.

    Neighbours without an ALT allele there are left out.
    """
    genotype = call.genotype
    phase_set = genotype.phase_set
    if genotype.is_homozygous and phase_set is None:
        near = [n for n in neighbours if n.genotype.phased and not n.genotype.is_homozygous]
        nearest = min(near, key=lambda n: max(n.start - call.end, call.start - n.end), default=None)
        phase_set = nearest.genotype.phase_set if nearest else None
    aligned = []
    for neighbour in neighbours:
        other = neighbour.genotype
        same_set = other.phased and other.phase_set == phase_set
        known = len(other.alleles) == len(genotype.alleles) and (other.is_homozygous or same_set)
        aligned.append((neighbour, [allele or 0 for allele in other.alleles] if known else None))
    return aligned


def _overlap(a: Edit, b: Edit) -> bool:
    """Whether two edits touch the same letters, or insert at the same place."""
    if not (a.ref or a.alt) or not (b.ref or b.alt):
        return False
    if not (a.ref or b.ref):
        return a.start == b.start
    return a.start < b.start + len(b.ref) and b.start < a.start + len(a.ref)


def _in_front(a: Edit, b: Edit) -> bool:
    """Whether an edit lies in front of another one that it does not overlap; an insertion is in front of a letter."""
    return (a.start, a.start + len(a.ref)) < (b.start, b.start + len(b.ref))


def _span(
    edit: Edit, strand: EditedStrand, window: int, both_strands: bool, horizon: int | None
) -> tuple[int, int]:
    """The stretch of a haplotype without the allele that its windows are cut from."""
    before, longer = window // 2, max(len(edit.ref), len(edit.alt))
    size = window if horizon is None else min(window, before + longer + horizon)
    size += max(0, len(edit.ref) - len(edit.alt))
    first = max(edit.start - before, 0)
    last = first + size
    if both_strands:
        mirrored = left_align(reverse_edit(edit, strand.length), ReverseStrand(strand))
        behind = strand.length - max(mirrored.start - before, 0)
        first, last = min(first, behind - size), max(last, behind)
    return max(first, 0), min(last, strand.length)
