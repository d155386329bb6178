"""How many chunks of one stage a chunk of the stage within it holds."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from genotok.interpret.chunk_rows import ChunkRow


@dataclass
class StageNesting:
    """Counts chunks within chunks as they come.

    Attributes:
        held: stage s from 1 on -> (how many chunks of stage s - 1 -> how many chunks of stage s hold so many).
    """

    held: dict[int, Counter] = field(default_factory=dict)
    _begun: dict[int, int] = field(default_factory=dict)

    def add(self, rows: Iterable[ChunkRow]) -> None:
        """Take chunks in the order of `ChunkRow`: by start, then stage. At a region's start all stages begin."""
        for row in rows:
            if row.stage in self._begun:
                held = self.held.setdefault(row.stage, Counter())
                outer = self._begun[row.stage]
                if outer > 1:
                    held[outer - 1] += 1
                self._begun[row.stage] = 1  # the outer chunk that begins with this one
            self._begun[row.stage + 1] = self._begun.get(row.stage + 1, 0) + 1

    def close(self) -> None:
        """The chunks that are still open end with the last region."""
        for stage in self.held:
            if self._begun[stage]:
                self.held[stage][self._begun[stage]] += 1
            self._begun[stage] = 0
