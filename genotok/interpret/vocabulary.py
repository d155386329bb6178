"""The words that a model makes of a genome: which chunks it cuts, how often, and how long they are."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from genotok.genomes.alphabets import reverse_complement
from genotok.interpret.chunk_rows import ChunkRow

LONGEST_WORD = 32  # letters; longer chunks are counted by length alone
MOST_WORDS = 1 << 20  # a stage; beyond it those that were seen once are forgotten


class Word(NamedTuple):
    """One chunk string of a stage.

    Attributes:
        stage: of the chunk.
        letters: the string.
        count: how many chunks are it.
        share: of the stage's chunks.
        expected: how often it would stand in the genome's chunks of its length if their letters were drawn
            independently, with the composition of all chunks.
        other_strand: how many chunks are its reverse complement.
    """

    stage: int
    letters: str
    count: int
    share: float
    expected: float
    other_strand: int


@dataclass
class _Stage:
    words: Counter = field(default_factory=Counter)
    lengths: Counter = field(default_factory=Counter)
    letters: Counter = field(default_factory=Counter)
    forgotten: int = 0


@dataclass
class Vocabulary:
    """Counts chunks as they come. Memory is bounded: of very many words the rarest are forgotten."""

    stages: dict[int, _Stage] = field(default_factory=dict)

    def add(self, rows: list[ChunkRow]) -> None:
        """Count some chunks; those with ambiguous letters by length alone."""
        for row in rows:
            stage = self.stages.setdefault(row.stage, _Stage())
            length = row.end - row.start
            stage.lengths[length] += 1
            if length <= LONGEST_WORD and not row.letters.strip("ACGT"):
                stage.words[row.letters] += 1
                stage.letters.update(row.letters)
                if len(stage.words) > MOST_WORDS:
                    once = [word for word, count in stage.words.items() if count == 1]
                    for word in once:
                        del stage.words[word]
                    stage.forgotten += len(once)

    def lengths(self, stage: int) -> dict[int, int]:
        """How many chunks of a stage have each length in letters, ascending."""
        return dict(sorted(self.stages[stage].lengths.items()))

    def most_frequent(self, stage: int, count: int = 50) -> list[Word]:
        """The most frequent words of a stage, equally frequent ones in the order of the alphabet."""
        found = self.stages[stage]
        chunks, letters = found.lengths.total(), found.letters.total()
        ranked = sorted(found.words.items(), key=lambda item: (-item[1], item[0]))[:count]
        words = []
        for word, number in ranked:
            expected = float(found.lengths[len(word)])
            for letter in word:
                expected *= found.letters[letter] / letters
            mirrored = found.words[reverse_complement(word.encode()).decode()]
            words.append(Word(stage, word, number, number / chunks, expected, mirrored))
        return words
