"""Which alleles of a record can be scored, and in which windows."""

from typing import NamedTuple

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.variants.alleles import Edit, is_certain, is_symbolic, left_align, spelled
from genotok.variants.letters import ContigLetters, ForwardStrand, PatchedStrand, ReferenceLetters
from genotok.variants.vcf_input import Record
from genotok.variants.windows import WindowPair, window_pairs

# An ambiguity code of the FASTA is written in a VCF as its alphabetically first base (VCF 4.5, section 1.6.1).
_FIRST_BASE = bytes.maketrans(b"RYSWKMBDHV", b"ACCAGACAAA")


class Verdict(NamedTuple):
    """An allele's status, and where it is `ok` its (REF, ALT) windows, one pair a strand."""

    status: str
    pairs: list[WindowPair]


class Site(NamedTuple):
    """Where a record lies: its contig, its REF allele, and a status when no allele there can be scored."""

    contig: ContigLetters
    start: int
    ref: bytes
    status: str


class Judge:
    """Decides about alleles.

    Args:
        reference: the FASTA.
        window: letters a window.
        both_strands: whether windows of the reverse strand are wanted.
        ref_mismatch: `error` raises, `skip` gives the status, `use-vcf` puts the record's REF in the place of
            the FASTA's letters. Where a record lies outside its contig, `use-vcf` is like `skip`.
        aliases: the FASTA's names of contigs that the VCF calls otherwise.
        horizon: letters behind each variant that count; None for all of the window.

    Attributes:
        patched: how many records' REF took the place of the FASTA's letters.
        unknown_contigs: the names in records that the FASTA has not.
    """

    def __init__(
        self,
        reference: Reference,
        window: int,
        both_strands: bool,
        ref_mismatch: str,
        aliases: dict[str, str],
        horizon: int | None = None,
    ):
        self.reference, self.window, self.both_strands = reference, window, both_strands
        self.ref_mismatch, self.aliases, self.horizon = ref_mismatch, aliases, horizon
        self.letters = ReferenceLetters(reference)
        self._contigs: dict[str, ForwardStrand | None] = {}
        self.patched = 0
        self.unknown_contigs: list[str] = []

    def contig(self, name: str) -> ForwardStrand | None:
        """The FASTA's contig that a VCF calls `name`, or None."""
        if name not in self._contigs:
            found = self.aliases.get(name) or self.reference.match(name)
            self._contigs[name] = self.letters.contig(found) if found else None
        return self._contigs[name]

    def length_of(self, name: str) -> int | None:
        """The length of the contig that a VCF calls `name`, or None."""
        contig = self.contig(name)
        return contig.length if contig else None

    def judge(self, record: Record) -> list[Verdict]:
        """A verdict for each ALT allele; none for a record without ALT.

        Raises:
            InputError: REF is not the FASTA's, and such records are to be an error.
        """
        verdicts, site = [], None
        for alt in record.alts:
            if alt in (b".", b""):
                verdicts.append(Verdict("missing", []))
            elif is_symbolic(alt):
                verdicts.append(Verdict("symbolic", []))
            else:
                site = site or self._site(record)
                verdicts.append(self._verdict(site, spelled(alt)))
        return verdicts

    def _site(self, record: Record) -> Site:
        contig = self.contig(record.contig)
        start, ref = record.position - 1, spelled(record.ref)
        if contig is None:
            if record.contig not in self.unknown_contigs:
                self.unknown_contigs.append(record.contig)
            return Site(contig, start, ref, "unknown_contig")
        here = contig.fetch(start, start + len(ref))
        if here == ref and start >= 0:
            return Site(contig, start, ref, "ok" if is_certain(ref) else "ambiguous_base")
        inside = start >= 0 and len(here) == len(ref)
        if inside and self.ref_mismatch == "use-vcf":
            status = "ok" if is_certain(ref) else "ambiguous_base"
            self.patched += 1
            return Site(PatchedStrand(contig, start, ref), start, ref, status)
        if inside and here.translate(_FIRST_BASE) == ref:
            return Site(contig, start, ref, "ambiguous_base")
        if self.ref_mismatch == "error":
            raise self._mismatch(record, contig, here if inside else b"")
        return Site(contig, start, ref, "ref_mismatch")

    def _mismatch(self, record: Record, contig: ForwardStrand, here: bytes) -> InputError:
        found = f"{_shown(here)} there" if here else f"only {contig.length} letters in {contig.name}"
        return InputError(
            f"{record.contig}:{record.position}: REF is {_shown(record.ref)}, and {self.reference.path} has "
            f"{found}; give the FASTA that the variants were called against, or skip such records with "
            "--ref-mismatch skip"
        )

    def _verdict(self, site: Site, alt: bytes) -> Verdict:
        if site.status != "ok":
            return Verdict(site.status, [])
        if not is_certain(alt):
            return Verdict("ambiguous_base", [])
        edit = left_align(Edit(site.start, site.ref, alt), site.contig)
        if max(len(edit.ref), len(edit.alt)) > self.window // 2:
            return Verdict("too_long", [])
        pairs = window_pairs(edit, site.contig, self.window, self.both_strands, self.horizon)
        return Verdict("ok", pairs)


def _shown(letters: bytes) -> str:
    text = letters.decode("ascii", "replace")
    return text if len(text) <= 20 else f"{text[:20]}... ({len(text)} letters)"
