"""The header of a VCF: what it says about contigs, and what scoring adds to it."""

import re
from collections.abc import Iterable

import genotok

LLR, LLR_FORWARD, LLR_REVERSE, STATUS = "GENOTOK_LLR", "GENOTOK_LLR_FWD", "GENOTOK_LLR_RC", "GENOTOK_STATUS"
FIELDS = (LLR, LLR_FORWARD, LLR_REVERSE, STATUS)

_RATIO = "ln p(ALT window) - ln p(REF window) in nats; negative = the model finds ALT less likely"
_DESCRIPTIONS = {
    LLR: ("Float", f"Log-likelihood ratio, mean of the scored strands: {_RATIO}"),
    LLR_FORWARD: ("Float", "Log-likelihood ratio on the forward strand"),
    LLR_REVERSE: ("Float", "Log-likelihood ratio on the reverse strand"),
    STATUS: ("String", "ok, or why the allele has no score"),
}
_CONTIG = re.compile(rb"##contig=<(?:.*?,)?ID=([^,>]+)")
_LENGTH = re.compile(rb"[<,]length=(\d+)")
_FIELD_LINE = re.compile(rb"##INFO=<(?:.*?,)?ID=(" + "|".join(FIELDS).encode() + rb")[,>]")
_COMMAND = b"##genotok_command="


class VcfHeader:
    """Header lines, kept byte by byte.

    Args:
        lines: the lines that begin with `#`, the last of them `#CHROM`, without line ends.

    Attributes:
        meta: the lines that begin with `##`.
        columns: the line `#CHROM`.
        contigs: name -> length, None where the header gives none.
    """

    def __init__(self, lines: Iterable[bytes]):
        *self.meta, self.columns = lines
        self.contigs: dict[str, int | None] = {}
        for line in self.meta:
            if found := _CONTIG.match(line):
                length = _LENGTH.search(line)
                self.contigs[found[1].decode("utf-8", "replace")] = int(length[1]) if length else None

    def add_contig(self, name: str, length: int | None) -> None:
        """Add a contig that the header lacks."""
        if name not in self.contigs:
            self.contigs[name] = length
            text = f"##contig=<ID={name}>" if length is None else f"##contig=<ID={name},length={length}>"
            self.meta.append(text.encode())

    def describe_scores(self, model: str, reference: str, window: int, command: str | None) -> None:
        """Add what scoring says about itself, in place of what an earlier scoring said.

        Args:
            model: the model's hash.
            reference: the FASTA's name and hash.
            window: letters a window.
            command: the command line; None leaves its line out.
        """
        self.drop_scores()
        about = {"version": genotok.__version__, "model_sha256": model, "reference": reference, "window": window}
        self.meta += [f"##genotok_{key}={value}".encode() for key, value in about.items()]
        self.set_command(command)
        for name, (kind, text) in _DESCRIPTIONS.items():
            self.meta.append(f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">'.encode())

    def drop_scores(self) -> None:
        """Take away what an earlier scoring added, except contigs."""
        self.meta = [
            line for line in self.meta if not (line.startswith(b"##genotok_") or _FIELD_LINE.match(line))
        ]

    def set_command(self, command: str | None) -> None:
        """Replace the line of the command, or take it away."""
        self.meta = [line for line in self.meta if not line.startswith(_COMMAND)]
        if command is not None:
            self.meta.append(_COMMAND + " ".join(command.split()).encode())

    def about_scores(self) -> list[bytes]:
        """The lines by which two scored files can be told to have been scored alike."""
        return [line for line in self.meta if line.startswith(b"##genotok_") and not line.startswith(_COMMAND)]

    def to_bytes(self) -> bytes:
        """The header's text."""
        return b"".join(line + b"\n" for line in [*self.meta, self.columns])


def with_scores(info: bytes, added: bytes) -> bytes:
    """An INFO column with the score fields `added`, in place of those of an earlier scoring."""
    if b"GENOTOK_" in info:
        names = tuple(name.encode() for name in FIELDS)
        info = b";".join(entry for entry in info.split(b";") if entry.split(b"=", 1)[0] not in names)
    return added if info in (b".", b"") else info + b";" + added
