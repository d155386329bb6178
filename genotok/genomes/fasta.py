"""FASTA for the other rooms: streaming, writing, and random access.

Coordinates are 0-based and half-open, except in error sentences, where positions are 1-based.
"""

import hashlib
import os
from functools import cached_property
from pathlib import Path

import pysam

from genotok.errors import InputError
from genotok.genomes.contigs import match_contig
from genotok.genomes.fasta_index import index_fasta, recompress_advice, usable_index
from genotok.genomes.fasta_text import compress_to_bgzf, read_fasta, write_fasta
from genotok.genomes.formats import BLOCK, genome_format, is_genome

__all__ = [
    "Reference",
    "compress_to_bgzf",
    "index_fasta",
    "is_genome",
    "match_contig",
    "read_fasta",
    "write_fasta",
]


class Reference:
    """Random access to a plain or BGZF FASTA.

    The index beside the file is used when it fits the file, whatever its date, and one that does not fit is an
    error. Where there is none it is made, after every letter has been checked: beside the file where that directory
    can be written to, else in a private folder of the temporary directory, where later processes find it again.
    Objects may be pickled and used after a fork; each process opens its own handle. One object must not be shared by
    threads.

    Args:
        path: the FASTA.

    Attributes:
        path: the FASTA's path.
        contigs: name -> length in bases, in the order of the file. Contigs without a base are left out.

    Raises:
        InputError: the file is absent or not FASTA, is compressed with plain gzip, cannot be indexed, or has the
            index of another file beside it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        kind = genome_format(self.path)
        if kind == "gzip":
            complaint = "is compressed with gzip, not BGZF, and cannot be read at random"
            raise InputError(recompress_advice(self.path, complaint))
        if kind not in ("fasta", "bgzf"):
            raise InputError(recompress_advice(self.path, f"is a {kind} file, not FASTA"))
        self._index = usable_index(self.path)
        self._process, self._handle = 0, None
        handle = self._open()
        self.contigs: dict[str, int] = dict(zip(handle.references, handle.lengths, strict=True))

    def fetch(self, contig: str, start: int = 0, end: int | None = None, *, keep_case: bool = False) -> str:
        """The letters of `[start, end)` (0-based), upper-cased; what lies outside the contig is left out.

        Args:
            contig: an exact name; `match` finds it for a name from another source.
            start: first position; below 0 counts as 0.
            end: position after the last; beyond the contig, or None, counts as its length.
            keep_case: leave soft-masked letters in lower case.

        Raises:
            InputError: no such contig, or the file cannot be read there.
        """
        if contig not in self.contigs:
            known = ", ".join(list(self.contigs)[:5])
            raise InputError(
                f"{self.path}: has no contig {contig}; it has {known}{' ...' * (len(self.contigs) > 5)}"
            )
        length = self.contigs[contig]
        start, end = max(start, 0), length if end is None else min(end, length)
        if start >= end:
            return ""
        try:
            letters = self._open().fetch(contig, start, end)
        except (OSError, ValueError) as error:
            raise self._damaged(contig, start, end) from error
        if len(letters) != end - start:
            raise self._damaged(contig, start, end)
        return letters if keep_case else letters.upper()

    def match(self, name: str) -> str | None:
        """The contig meant by `name`, as `match_contig` finds it, or None."""
        return match_contig(name, self.contigs)

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hexadecimal: of each contig in order `name TAB length LF` and the upper-cased letters.

        It does not depend on compression, line widths, case or header texts. A plain FASTA of the human
        genome takes some ten seconds, a BGZF one longer.
        """
        digest = hashlib.sha256()
        for contig, length in self.contigs.items():
            digest.update(f"{contig}\t{length}\n".encode())
            for start in range(0, length, BLOCK):
                digest.update(self.fetch(contig, start, start + BLOCK).encode())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; the next `fetch` opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self):
        return Reference, (self.path,)

    def _open(self) -> pysam.FastaFile:
        """This process's own handle: a forked one would share its file offset with the parent."""
        if self._handle is None or self._process != os.getpid():
            fai, gzi = self._index
            places = {"filepath_index": str(fai), "filepath_index_compressed": str(gzi) if gzi else None}
            try:
                self._handle = pysam.FastaFile(str(self.path), **places)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{self.path}: cannot be opened with its index {fai}; delete the index"
                ) from error
            self._process = os.getpid()
        return self._handle

    def _damaged(self, contig: str, start: int, end: int) -> InputError:
        return InputError(
            f"{self.path}: {contig}:{start + 1}-{end} cannot be read; the file is damaged, get it again"
        )
