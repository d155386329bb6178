"""One pass over a genome that gathers all that there is to say of a model's chunks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from genotok.genomes.fasta import Reference
from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.chunk_rows import ChunkRow, ChunkRows
from genotok.interpret.chunks import RegionChunks
from genotok.interpret.enrichment import LONGEST_BLOCK, BoundaryEnrichment
from genotok.interpret.stage_nesting import StageNesting
from genotok.interpret.vocabulary import Vocabulary

BIN = 1000  # bases


@dataclass
class Compression:
    """Bases and chunks in bins of `BIN` bases.

    Attributes:
        bases: (contig, bin) -> bases that were read.
        chunks: (contig, bin, stage) -> chunks that begin there.
        bits: (contig, bin) -> sum of the surprisal in bits, over `known` bases.
        known: (contig, bin) -> bases that have one.
    """

    bases: dict[tuple[str, int], int] = field(default_factory=dict)
    chunks: dict[tuple[str, int, int], int] = field(default_factory=dict)
    bits: dict[tuple[str, int], float] = field(default_factory=dict)
    known: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, part: RegionChunks) -> None:
        """Count a part."""
        bins = np.arange(part.start, part.end) // BIN
        edges = np.flatnonzero(np.diff(bins, prepend=-1))
        is_known = ~np.isnan(part.surprisal)
        counts = {"bases": np.ones(len(bins)), "bits": np.nan_to_num(part.surprisal), "known": is_known}
        sums = {key: np.add.reduceat(values, edges, dtype=np.float64) for key, values in counts.items()}
        stages = [np.add.reduceat(begins, edges, dtype=np.int64) for begins in part.begins]
        for row, number in enumerate(bins[edges].tolist()):
            place = part.contig, number
            self.bases[place] = self.bases.get(place, 0) + int(sums["bases"][row])
            self.known[place] = self.known.get(place, 0) + int(sums["known"][row])
            self.bits[place] = self.bits.get(place, 0.0) + float(sums["bits"][row])
            for stage, begun in enumerate(stages):
                self.chunks[*place, stage] = self.chunks.get((*place, stage), 0) + int(begun[row])


@dataclass
class TokenSurvey:
    """What a pass found."""

    enrichment: BoundaryEnrichment = field(default_factory=BoundaryEnrichment)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    nesting: StageNesting = field(default_factory=StageNesting)
    compression: Compression = field(default_factory=Compression)

    def add(self, rows: list[ChunkRow]) -> None:
        """Count whole chunks, in their order."""
        self.vocabulary.add(rows)
        self.nesting.add(rows)


def survey_tokens(parts: Iterable[RegionChunks], reference: Reference, annotation: Annotation) -> TokenSurvey:
    """Gather boundaries, words and compression; memory does not grow with the genome.

    Args:
        parts: of `genotok.interpret.chunks.read_chunks`.
        reference: the genome.
        annotation: the places that boundaries are compared with.
    """
    found, rows = TokenSurvey(), ChunkRows()
    for block in _blocks(_seen(parts, found, rows)):
        contig, start, end = block[0].contig, block[0].start, block[-1].end
        letters = reference.fetch(contig, start, end, keep_case=True).encode()
        begins = [np.concatenate(stage) for stage in zip(*(part.begins for part in block), strict=True)]
        found.enrichment.add(begins, annotation.masks(contig, letters, start))
    found.add(rows.close())
    found.nesting.close()
    return found


def _seen(parts: Iterable[RegionChunks], found: TokenSurvey, rows: ChunkRows) -> Iterator[RegionChunks]:
    for part in parts:
        found.add(rows.add(part))
        found.compression.add(part)
        yield part


def _blocks(parts: Iterable[RegionChunks]) -> Iterator[list[RegionChunks]]:
    """Parts that adjoin, up to `LONGEST_BLOCK` bases together."""
    for _, of_contig in groupby(parts, key=lambda part: part.contig):
        block: list[RegionChunks] = []
        for part in of_contig:
            if block and (block[-1].end != part.start or part.end - block[0].start > LONGEST_BLOCK):
                yield block
                block = []
            block.append(part)
        yield block
