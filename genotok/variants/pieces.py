"""Cutting a VCF into pieces that are scored side by side, and putting the scored pieces together again."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from genotok.errors import InputError
from genotok.variants.alleles import is_symbolic
from genotok.variants.haplotypes import end_of
from genotok.variants.same_files import refuse_same_files
from genotok.variants.vcf_header import COMMAND, Piece, VcfHeader
from genotok.variants.vcf_input import BLOCK_RECORDS, Record, VcfInput, open_vcf
from genotok.variants.vcf_output import open_vcf_output

_PORTION = 1000  # records in memory


def split_vcf(vcf: str | Path, pieces: Sequence[str | Path], context: int = 0) -> list[int]:
    """Cut a VCF into as many pieces as paths are given, each a stretch of its records under the whole header.

    A piece ends behind a whole number of blocks of 256 records, as scoring cuts them, so that the scores do not
    depend on the number of pieces. The numbers of blocks differ by one at most; with fewer blocks than pieces some
    pieces have none. Pieces get no index, and a line of their header says which of their records are their own.

    Args:
        vcf: the VCF.
        pieces: the files to write.
        context: the records of so many letters around a piece's own are written as well, in front of and behind
            these; letters that may be deleted do not count. The VCF must be sorted then. They are read by
            `score --haplotypes` alone, which needs those of two windows, and written by nobody again.

    Returns:
        The number of records of its own in each piece.

    Raises:
        InputError: the VCF cannot be read or comes from standard input (it is read twice), no piece is named,
            a piece cannot be written, or the VCF is not sorted and context is wanted.
    """
    if str(vcf) == "-":
        raise InputError("standard input cannot be split, since it is read twice; give a file")
    if not pieces or "-" in map(str, pieces):
        raise InputError(f"{vcf}: name at least one piece to split it into, and a file for each")
    refuse_same_files((vcf,), pieces)
    with open_vcf(vcf) as source:
        total = sum(1 for _ in source)
    blocks = -(-total // BLOCK_RECORDS)
    ends = [min(total, blocks * (i + 1) // len(pieces) * BLOCK_RECORDS) for i in range(len(pieces))]
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    with open_vcf(vcf) as source:
        records = Surroundings(source, context)
        for piece, size in zip(pieces, sizes, strict=True):
            with open_vcf_output(piece, source.header, indexed=False) as sink:
                before = records.before() if size else []
                sink.write(before)
                for portion in _portions(islice(records, size)):
                    sink.write(portion)
                sink.write(records.behind() if size else [])
                source.header.piece = Piece(len(before), size, context)
    return sizes


class Surroundings:
    """The records of a VCF one by one, and at any time those around that reach to within some letters.

    Args:
        source: the VCF.
        context: letters, those that a record may delete not counted; 0 finds none.
    """

    def __init__(self, source: VcfInput, context: int):
        self._source, self._context = source, context
        self._records = iter(source)
        self._ahead: deque[Record] = deque()
        self._past: list[Record] = []  # of the contig of the latest, as far as they matter
        self._seen: set[str] = set()
        self._reaches = self._deleted = 0  # of the records since `before`: how far they reach, and may delete

    def __iter__(self) -> Iterator[Record]:
        while self._ahead or self._look_ahead():
            record = self._ahead.popleft()
            if self._context:
                self._note(record)
            yield record

    def _look_ahead(self) -> bool:
        record = next(self._records, None)
        if record is not None:
            self._ahead.append(record)
        return record is not None

    def _note(self, record: Record) -> None:
        if not self._past or self._past[-1].contig != record.contig:
            if record.contig in self._seen:
                raise self._unsorted(record)
            self._seen.add(record.contig)
            self._past, self._reaches, self._deleted = [], 0, 0
        elif record.position < self._past[-1].position:
            raise self._unsorted(record)
        self._past.append(record)
        self._reaches = max(self._reaches, _end_of_letters(record) - self._deleted)
        self._deleted += _deletes(record)
        if len(self._past) > 2 * _PORTION:
            self._past = self._reaching(record.position - 1)

    def _unsorted(self, record: Record) -> InputError:
        return InputError(
            f"{self._source.label}: {record.contig}:{record.position}: is not sorted; sort the VCF to split it with "
            "--context"
        )

    def before(self) -> list[Record]:
        """Records of the past around the next one."""
        self._reaches = self._deleted = 0
        if not (self._context and (self._ahead or self._look_ahead())):
            return []
        following = self._ahead[0]
        if not self._past or self._past[-1].contig != following.contig:
            return []
        return self._reaching(following.position - 1)

    def _reaching(self, position: int) -> list[Record]:
        """Records of the past that reach to within the context in front of a position, by END if not in letters.

        All are kept behind the first that does so in letters, for what one may delete brings others nearer.
        """
        limit, first = self._context, len(self._past)
        for i in range(len(self._past) - 1, -1, -1):
            if position - _end_of_letters(self._past[i]) <= limit:
                first = i
                limit += _deletes(self._past[i])
        spanning = [r for r in self._past[:first] if position - end_of(r) <= limit]
        return spanning + self._past[first:]

    def behind(self) -> list[Record]:
        """Records of the future around those since the latest `before`."""
        found: list[Record] = []
        if not self._context or not self._past:
            return found
        contig, deleted = self._past[-1].contig, self._deleted
        while len(found) < len(self._ahead) or self._look_ahead():
            record = self._ahead[len(found)]
            limit = self._reaches + self._context + deleted
            if record.contig != contig or record.position > limit:
                break
            deleted += _deletes(record)
            found.append(record)
        return found


def _end_of_letters(record: Record) -> int:
    return record.position - 1 + len(record.ref)


def _deletes(record: Record) -> int:
    """The most letters by which an allele that is spelled out makes a sequence shorter."""
    shorter = [len(record.ref) - len(alt) for alt in record.alts if not is_symbolic(alt)]
    return max([0, *shorter])


def gather_vcfs(pieces: Sequence[str | Path], output: str | Path, command: str | None = None) -> None:
    """Put scored pieces together in the order given, with an index.

    The file is the one that scoring the whole VCF at once writes under the same command.

    Args:
        pieces: as `genotok.variants.score.score_vcf` wrote them.
        output: see `genotok.variants.vcf_output.open_vcf_output`.
        command: the command line for the header, in place of those of the pieces; None leaves it out.

    Raises:
        InputError: a piece cannot be read, pieces were scored differently or have other samples, or the output
            cannot be written.
    """
    if not pieces:
        raise InputError(f"{output}: name at least one piece to gather")
    refuse_same_files(pieces, (output,))
    with open_vcf(pieces[0]) as first:
        header = first.header
    header.set_command(command)
    with open_vcf_output(output, header) as sink:
        for piece in pieces:
            with open_vcf(piece) as source:
                _check_alike(header, source.header, f"{piece}: was not scored as {pieces[0]} was")
                for name, length in source.header.contigs.items():
                    header.add_contig(name, length)
                for portion in _portions(source):
                    sink.write(portion)


def _check_alike(first: VcfHeader, other: VcfHeader, complaint: str) -> None:
    for ours, theirs in ((first.scores, other.scores), ([first.columns], [other.columns])):
        ours, theirs = ({line for line in lines if not line.startswith(COMMAND)} for lines in (ours, theirs))
        if ours != theirs:
            line = min(ours ^ theirs).decode("utf-8", "replace")[:100]
            raise InputError(f"{complaint} ({line}); score all pieces of one VCF alike")


def _portions(records: Iterable[Record]) -> Iterator[list[Record]]:
    records = iter(records)
    while portion := list(islice(records, _PORTION)):
        yield portion
