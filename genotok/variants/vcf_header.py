"""The header of a VCF: what it says about contigs, and what scoring adds to it."""

import re
from collections.abc import Iterable, Sequence

import genotok
from genotok.provenance import carried_hash
from genotok.variants.fields import DEFAULT_FIELDS, FIELDS, ScoreField

HAPLOTYPE_FIELDS = ("GENOTOK_LLR_H1", "GENOTOK_LLR_H2", "GENOTOK_HAPLOTYPE_STATUS")

_ADDED = (*(field.info for field in FIELDS), *HAPLOTYPE_FIELDS)
_CONTIG = re.compile(rb"##contig=<(?:.*?,)?ID=([^,>]+)")
_LENGTH = re.compile(rb"[<,]length=(\d{1,18})[,>]")
_CONTIG_NAME = re.compile(
    r"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*"
)  # VCF 4.3, section 1.4.7
_FIELD_LINE = re.compile(rb"##INFO=<(?:.*?,)?ID=(" + "|".join(_ADDED).encode() + rb")[,>]")
COMMAND = b"##genotok_command="


class VcfHeader:
    """Header lines, kept byte by byte.

    Args:
        lines: the lines that begin with `#`, the last of them `#CHROM`, without line ends.

    Attributes:
        meta: the lines that begin with `##`, less those of `scores`.
        scores: the lines that scoring added.
        columns: the line `#CHROM`.
        contigs: name -> length, None where the header gives none.
    """

    def __init__(self, lines: Iterable[bytes]):
        *meta, self.columns = lines
        self.scores = [line for line in meta if line.startswith(b"##genotok_") or _FIELD_LINE.match(line)]
        self.meta = [line for line in meta if line not in self.scores]
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
        for name, _, kind, text, _ in fields:
            self.scores.append(f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">'.encode())
        if sample is not None:
            self.scores += _haplotype_lines(sample)
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
        return b"".join(line + b"\n" for line in [*self.meta, *self.scores, self.columns])


def _haplotype_lines(sample: str) -> list[bytes]:
    quoted = sample.replace("\\", "\\\\").replace('"', '\\"')
    texts = [
        f"Log-likelihood ratio on haplotype {number} of sample {quoted}, with its phased variants around in both "
        "windows, mean of the scored strands; missing where the haplotype does not carry the allele"
        for number in (1, 2)
    ]
    texts.append(f"ok, or what is to be known about the haplotypes of sample {quoted}")
    return [
        f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">'.encode()
        for name, kind, text in zip(HAPLOTYPE_FIELDS, ("Float", "Float", "String"), texts, strict=True)
    ]


def with_scores(info: bytes, added: bytes) -> bytes:
    """An INFO column with the score fields `added`, in place of those of an earlier scoring."""
    entries = [] if info in (b".", b"") else [info]
    if b"GENOTOK_" in info:
        names = tuple(name.encode() for name in _ADDED)
        entries = [entry for entry in info.split(b";") if entry.split(b"=", 1)[0] not in names]
    return b";".join([*entries, added] if added else entries) or b"."
