"""Regions of a genome: as people write them, as BED has them, and put in order.

Inside they are 0-based and half-open.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from genotok.errors import InputError
from genotok.genomes.contigs import match_contig
from genotok.genomes.intervals import bed_line, data_lines


class Region(NamedTuple):
    """The bases `[start, end)` of a contig, 0-based."""

    contig: str
    start: int
    end: int


def parse_region(text: str, contigs: Mapping[str, int]) -> Region:
    """Read a region as people write it; what stands behind the last colon is the range, if it is one.

    Args:
        text: `CONTIG:START-END`, 1-based and closed, with or without commas in the numbers, or `CONTIG` for all
            of it. The name may hold `:` and `*`, as in `HLA-DRB1*16:02:01:1-100`, and may differ from the
            FASTA's as `chr1` does from `1`.
        contigs: name -> length in bases.

    Returns:
        The contig's name in `contigs`, and the region, 0-based and half-open.

    Raises:
        InputError: the text is no region, can be read in two ways, or lies outside the contigs.
    """
    text = text.strip()
    whole = match_contig(text, contigs)
    found = re.fullmatch(r"(.+):(\d[\d,]*)-(\d[\d,]*)", text, re.ASCII)
    contig = match_contig(found[1], contigs) if found else None
    if whole is not None and contig is not None:
        length = contigs[whole]
        raise InputError(
            f"region {text!r}: is a contig's name and a part of contig {contig}; "
            f"write {whole}:1-{length} for the contig"
        )
    if whole is not None:
        return Region(whole, 0, contigs[whole])
    if found is None:
        raise InputError(
            f"region {text!r}: is neither CONTIG:START-END, as in chr1:1,000-2,000, nor a contig"
        )
    if contig is None:
        known = ", ".join(list(contigs)[:5]) + " ..." * (len(contigs) > 5)
        raise InputError(f"region {text!r}: there is no contig {found[1]}; there are {known}")
    start, end = (int(number.replace(",", "")) for number in found.groups()[1:])
    if not 1 <= start <= end:
        raise InputError(f"region {text!r}: the start must be at least 1 and at most the end")
    if end > contigs[contig]:
        raise InputError(f"region {text!r}: ends behind {contig}, which has {contigs[contig]:,} bases")
    return Region(contig, start - 1, end)


def read_bed(path: str | Path, contigs: Mapping[str, int]) -> list[Region]:
    """Read the regions of a BED file, plain or compressed; columns behind the third do not count.

    Regions without a base, which BED allows, are left out, and so are the lines `#`, `track` and `browser`.

    Args:
        path: the file; its numbers are 0-based and half-open.
        contigs: name -> length in bases; names may differ from those as `chr1` does from `1`.

    Raises:
        InputError: the file cannot be read, or a line is no region of the contigs; names the line.
    """
    regions = []
    for number, line in data_lines(path, "BED"):
        region = _bed_region(line, contigs, f"{path}: line {number}")
        if region.start < region.end:
            regions.append(region)
    return regions


def _bed_region(line: str, contigs: Mapping[str, int], place: str) -> Region:
    try:
        name, _, start, end = bed_line(line)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    contig = match_contig(name, contigs)
    if contig is None:
        known = ", ".join(list(contigs)[:5]) + " ..." * (len(contigs) > 5)
        raise InputError(f"{place}: there is no contig {name}; there are {known}")
    if end > contigs[contig]:
        raise InputError(f"{place}: ends behind {contig}, which has {contigs[contig]:,} bases")
    return Region(contig, start, end)


def merge_regions(regions: Iterable[Region], contigs: Iterable[str]) -> list[Region]:
    """Regions in the order of the contigs; those that overlap or touch become one."""
    rank = {name: number for number, name in enumerate(contigs)}
    merged: list[Region] = []
    for region in sorted(regions, key=lambda region: (rank[region.contig], region.start)):
        last = merged[-1] if merged else None
        if last and last.contig == region.contig and region.start <= last.end:
            merged[-1] = last._replace(end=max(last.end, region.end))
        else:
            merged.append(region)
    return merged
