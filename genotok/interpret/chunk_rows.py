"""Whole chunks of a genome that is read in parts, and their lines of BED9."""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from genotok.interpret.chunks import RegionChunks

LONGEST_NAME = 200  # letters; genome browsers refuse names of more than 255
# A dark and a light colour for the chunks of each stage in turn (Okabe and Ito), outermost first.
STAGE_COLOURS = [
    ("0,114,178", "86,180,233"),
    ("213,94,0", "230,159,0"),
    ("0,158,115", "204,121,167"),
]


class ChunkRow(NamedTuple):
    """One chunk of `[start, end)`, 0-based.

    Attributes:
        start, stage, end: where it lies, and in which stage; rows of a contig are in the order of these.
        contig: the contig's name.
        letters: its first 201 letters at most.
        probability: that a chunk of the stage begins where it does; 0 where a region begins within a chunk.
        number: how many chunks of its stage the region has in front of it.
    """

    start: int
    stage: int
    end: int
    contig: str
    letters: str
    probability: float
    number: int

    def bed_line(self) -> str:
        """The chunk as a line of BED9; the colours of the chunks of a stage alternate.

        Its name is `s<stage>:<its letters>`, with `...` behind the first 200 letters of a longer one, its score a
        thousand times the probability.
        """
        letters = self.letters if len(self.letters) <= LONGEST_NAME else self.letters[:LONGEST_NAME] + "..."
        colour = STAGE_COLOURS[self.stage % len(STAGE_COLOURS)][self.number % 2]
        span, score = f"{self.start}\t{self.end}", round(1000 * self.probability)
        return f"{self.contig}\t{span}\ts{self.stage}:{letters}\t{score}\t.\t{span}\t{colour}\n"


@dataclass
class _Open:
    """A chunk whose end has not come yet."""

    start: int
    letters: str
    probability: float
    number: int


@dataclass
class ChunkRows:
    """Puts the chunks of parts together, in the order of their starts and then their stages.

    Parts that adjoin are of one region; elsewhere all chunks end with the part, and begin with the next.
    """

    _open: list[_Open | None] = field(default_factory=list)
    _contig: str = ""
    _end: int = -1
    _waiting: list[ChunkRow] = field(default_factory=list)

    def add(self, part: RegionChunks) -> list[ChunkRow]:
        """Take the next part; the chunks that are whole and in order now."""
        done = [] if (part.contig, part.start) == (self._contig, self._end) else self.close()
        if not self._open:
            self._open = [None] * len(part.begins)
        self._contig, self._end = part.contig, part.end
        for stage in range(len(part.begins)):
            self._add_stage(part, stage)
        return done + self._ready()

    def close(self) -> list[ChunkRow]:
        """The chunks that are still open end where the last part does."""
        for stage, chunk in enumerate(self._open):
            if chunk is not None:
                self._end_chunk(stage, self._end)
        self._open = []
        return self._ready()

    def _add_stage(self, part: RegionChunks, stage: int) -> None:
        starts = np.flatnonzero(part.begins[stage]).tolist()
        opened = self._open[stage]
        first = starts[0] if starts else len(part.letters)
        if opened is None and first > 0:
            starts.insert(0, 0)
        elif opened is not None:
            opened.letters += part.letters[: min(first, LONGEST_NAME + 1 - len(opened.letters))]
        for start, end in pairwise([*starts, len(part.letters)]):
            if self._open[stage] is not None:
                self._end_chunk(stage, part.start + start)
            letters = part.letters[start : min(end, start + LONGEST_NAME + 1)]
            number = 0 if self._open[stage] is None else self._open[stage].number + 1
            probability = float(part.probability[stage][start])
            self._open[stage] = _Open(part.start + start, letters, probability, number)

    def _end_chunk(self, stage: int, end: int) -> None:
        chunk = self._open[stage]
        row = ChunkRow(chunk.start, stage, end, self._contig, chunk.letters, chunk.probability, chunk.number)
        heappush(self._waiting, row)

    def _ready(self) -> list[ChunkRow]:
        """The rows in front of which no open chunk begins."""
        first_open = min((chunk.start for chunk in self._open if chunk is not None), default=None)
        ready = []
        while self._waiting and (first_open is None or self._waiting[0].start < first_open):
            ready.append(heappop(self._waiting))
        return ready
