"""The header of a VCF: what it says about contigs, and what scoring adds to it."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import genotok
from genotok.errors import InputError
from genotok.provenance import carried_hash
from genotok.variants.fields import DEFAULT_FIELDS, FIELDS, HAPLOTYPE_FIELDS, ScoreField

_ADDED = tuple(field.info for field in (*FIELDS, *HAPLOTYPE_FIELDS))
_CONTIG = re.compile(rb"##contig=<(?:.*?,)?ID=([^,>]+)")
_LENGTH = re.compile(rb"[<,]length=(\d{1,18})[,>]")
_CONTIG_NAME = re.compile(
    r"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*"
)  # VCF 4.3, section 1.4.7
_FIELD_LINE = re.compile(rb"##INFO=<(?:.*?,)?ID=(" + "|".join(_ADDED).encode() + rb")[,>]")
COMMAND = b"##genotok_command="
_PIECE = b"##genotok_piece="


class Piece(NamedTuple):
    """What a piece of a VCF holds of it.

    Attributes:
        before: so many records at first are there for the sake of those behind them.
        records: so many follow that are the piece's own; what comes then is there for their sake as well.
        context: letters around the piece's own records within which those others are complete.
    """

    before: int
    records: int
    context: int

    def line(self) -> bytes:
        """The line of the header."""
        return _PIECE + f"before {self.before}, records {self.records}, context {self.context}".encode()

    @classmethod
    def of_line(cls, line: bytes) -> "Piece":
        """What a line of a header says."""
        found = re.fullmatch(
            rb"before (\d{1,18}), records (\d{1,18}), context (\d{1,18})", line[len(_PIECE) :]
        )
        if not found:
            raise InputError(
                f"the header's line {line.decode('utf-8', 'replace')!r} is not as `genotok vcf split` writes it; "
                "cut the VCF again"
            )
        return cls(*map(int, found.groups()))


class VcfHeader:
    """Header lines, kept byte by byte.

    Args:
        lines: the lines that begin with `#`, the last of them `#CHROM`, without line ends.

    Attributes:
        meta: the lines that begin with `##`, less those of `scores`.
        scores: the lines that scoring added.
        piece: which piece of a VCF this is; None for a whole one.
        columns: the line `#CHROM`.
        contigs: name -> length, None where the header gives none.
    """

    def __init__(self, lines: Iterable[bytes]):
        *meta, self.columns = lines
        self.scores = [line for line in meta if line.startswith(b"##genotok_") or _FIELD_LINE.match(line)]
        self.meta = [line for line in meta if line not in self.scores]
        pieces = [line for line in self.scores if line.startswith(_PIECE)]
        self.scores = [line for line in self.scores if line not in pieces]
        self.piece = Piece.of_line(pieces[0]) if pieces else None
        self.contigs: dict[str, int | None] = {}
        for line in self.meta:
            if found := _CONTIG.match(line):
                length = _LENGTH.search(line)
                self.contigs[found[1].decode("utf-8", "replace")] = int(length[1]) if length else None

    def add_contig(self, name: str, length: int | None) -> None:
        """Add a contig, unless the header has it, or VCF has no way to write its name there."""
        if name not in self.contigs:
            self.contigs[name] = length
            if not _CONTIG_NAME.fullmatch(name):
                return
            text = f"##contig=<ID={name}>" if length is None else f"##contig=<ID={name},length={length}>"
            self.meta.append(text.encode())

    def describe_scores(
        self,
        model: str,
        reference: str,
        window: int,
        command: str | None,
        fields: Sequence[ScoreField] = DEFAULT_FIELDS,
        masked: str | None = None,
        sample: str | None = None,
    ) -> None:
        """Say how the scores were made, in place of what an earlier scoring said; see also `genotok.provenance`.

        Args:
            model: the model's hash.
            reference: the FASTA's name and hash.
            window: letters a window.
            command: the command line; None leaves its line out.
            fields: those that records get.
            masked: how a model of masked tokens scored substitutions; None for a causal model.
            sample: whose haplotypes were scored as well, or None.
        """
        about = {
            "version": genotok.__version__,
            "model_sha256": model,
            "reference": reference,
            "window": window,
        } | ({"masked": masked} if masked else {})
        if provenance := carried_hash():
            about["provenance"] = provenance
        self.scores = [f"##genotok_{key}={value}".encode() for key, value in about.items()]
        self.scores += [_field_line(field, field.description) for field in fields]
        if sample is not None:
            quoted = sample.replace("\\", "\\\\").replace('"', '\\"')
            self.scores += [
                _field_line(field, field.description.format(sample=quoted)) for field in HAPLOTYPE_FIELDS
            ]
        self.set_command(command)

    @property
    def samples(self) -> list[str]:
        """The names of the samples, in the order of their columns."""
        return [name.decode("utf-8", "replace") for name in self.columns.split(b"\t")[9:]]

    def set_command(self, command: str | None) -> None:
        """Replace the line of the command, or take it away."""
        self.scores = [line for line in self.scores if not line.startswith(COMMAND)]
        if command is not None:
            self.scores.append(COMMAND + " ".join(command.split()).encode())

    def to_bytes(self) -> bytes:
        """The header's text."""
        piece = [self.piece.line()] if self.piece else []
        return b"".join(line + b"\n" for line in [*self.meta, *self.scores, *piece, self.columns])


def _field_line(field: ScoreField, description: str) -> bytes:
    return f'##INFO=<ID={field.info},Number=A,Type={field.kind},Description="{description}">'.encode()


def with_scores(info: bytes, added: bytes) -> bytes:
    """An INFO column with the score fields `added`, in place of those of an earlier scoring."""
    entries = [] if info in (b".", b"") else [info]
    if b"GENOTOK_" in info:
        names = tuple(name.encode() for name in _ADDED)
        entries = [entry for entry in info.split(b";") if entry.split(b"=", 1)[0] not in names]
    return b";".join([*entries, added] if added else entries) or b"."
