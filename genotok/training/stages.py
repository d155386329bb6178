"""What each stage of a model does in a step: how it cuts, and how sure it is of that."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

SURE = 1e-7  # probabilities this near to 0 or 1 have no entropy


@dataclass(frozen=True)
class StageNumbers:
    """The chunks of one stage in a batch.

    Attributes:
        rows: of the stage, over all sequences; in stage 0 tokens, further in chunks of the stage around it.
        chunks: how many the rows make.
        entropy: mean binary entropy of the boundary probabilities in bits, 0 where no weight decides upon them;
            the first row of a sequence, which always begins a chunk, counts as 0.
        learned: whether the boundaries follow the model's own scores.
    """

    rows: int
    chunks: int
    entropy: float
    learned: bool


def binary_entropy(probability: Tensor) -> Tensor:
    """-p log2 p - (1 - p) log2 (1 - p), elementwise in float32."""
    p = probability.float().clamp(SURE, 1 - SURE)
    entropy = -(p * p.log() + (1 - p) * (-p).log1p()) / math.log(2)
    return entropy * ((probability > SURE) & (probability < 1 - SURE))


def chunk_record(stages: list[StageNumbers], letters: int) -> dict[str, Any]:
    """What `metrics.jsonl` says about chunks, one value a chunking stage.

    Args:
        stages: of the batch.
        letters: that the batch holds.
    """
    return {
        "chunk_fraction": [stage.chunks / stage.rows for stage in stages],
        "letters_per_chunk": [letters / stage.chunks for stage in stages],
        "boundary_entropy": [stage.entropy for stage in stages],
    }
