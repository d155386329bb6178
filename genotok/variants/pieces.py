"""Cutting a VCF into pieces that are scored side by side, and putting the scored pieces together again."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from genotok.errors import InputError
from genotok.variants.vcf_header import COMMAND, VcfHeader
from genotok.variants.vcf_input import BLOCK_RECORDS, Record, open_vcf
from genotok.variants.vcf_output import open_vcf_output

_PORTION = 1000  # records in memory


def split_vcf(vcf: str | Path, pieces: Sequence[str | Path]) -> list[int]:
    """Cut a VCF into as many pieces as paths are given, each a stretch of its records under the whole header.

    A piece ends behind a whole number of blocks of 256 records, as scoring cuts them, so that the scores do not
    depend on the number of pieces. The numbers of blocks differ by one at most; with fewer blocks than pieces some
    pieces have none. Pieces get no index.

    Returns:
        The number of records in each piece.

    Raises:
        InputError: the VCF cannot be read or comes from standard input (it is read twice), no piece is named,
            or a piece cannot be written.
    """
    if str(vcf) == "-":
        raise InputError("standard input cannot be split, since it is read twice; give a file")
    if not pieces:
        raise InputError(f"{vcf}: name at least one piece to split it into")
    with open_vcf(vcf) as source:
        total = sum(1 for _ in source)
    blocks = -(-total // BLOCK_RECORDS)
    ends = [min(total, blocks * (i + 1) // len(pieces) * BLOCK_RECORDS) for i in range(len(pieces))]
    sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    with open_vcf(vcf) as source:
        records = iter(source)
        for piece, size in zip(pieces, sizes, strict=True):
            with open_vcf_output(piece, source.header, indexed=False) as sink:
                for portion in _portions(islice(records, size)):
                    sink.write(portion)
    return sizes


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
