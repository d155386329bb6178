"""What a forward pass gives, in padded form."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.models.cache import StageCache
from genotok.models.chunkers.routing import Boundaries


@dataclass
class StageBoundaries:
    """Boundaries of one stage in padded form: `prob` (B, L_s) float32 and `mask` (B, L_s) bool.

    L_s is the length of the input in stage 0; further in it is the largest number of chunks that the stage around
    it makes of a sequence. Behind the end of a sequence both are 0.
    """

    prob: Tensor
    mask: Tensor


@dataclass
class ModelOutput:
    """What a forward pass gives.

    Attributes:
        logits: (B, L, V); zero behind the end of a sequence. None where the only task is `prediction`.
        loss: scalar, the weighted sum of `losses`, when labels were given; for `lm` or `mlm` alone the mean
            cross-entropy in nats over the predicted tokens.
        boundaries: one entry a chunking stage, outermost first.
        hidden_states: on request, a list of (B, L, D): the embeddings, in a model of one stage the states between
            its blocks, and the states after the final norm.
        packed_boundaries: the same boundaries as the model holds them.
        cache: on request, what `GenomicLM.step` needs to go on behind each sequence.
        predictions: in the task `prediction`, what each head gives by its name, float32: (B, N), or (B, L, N) per
            nucleotide; logits of classes, logits of yes, or numbers.
        losses: scalars before weighting, by name: `lm`, `mlm`, and the heads that labels were given for.
    """

    logits: Tensor | None
    loss: Tensor | None = None
    boundaries: list[StageBoundaries] = field(default_factory=list)
    hidden_states: list[Tensor] | None = None
    packed_boundaries: list[Boundaries] = field(default_factory=list, repr=False)
    cache: StageCache | None = field(default=None, repr=False)
    predictions: dict[str, Tensor] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)

    def with_empty_sequences(self, kept: Tensor) -> "ModelOutput":
        """The output with zeros for the sequences that are not `kept` (B,) bool; the cache stays as it is."""

        def spread(part: Tensor | None) -> Tensor | None:
            if part is None:
                return None
            rows = kept.nonzero()[:, 0]
            return part.new_zeros(len(kept), *part.shape[1:]).index_copy(0, rows, part)

        return replace(
            self,
            logits=spread(self.logits),
            predictions={name: spread(part) for name, part in self.predictions.items()},
            boundaries=[StageBoundaries(spread(stage.prob), spread(stage.mask)) for stage in self.boundaries],
            hidden_states=None if self.hidden_states is None else [spread(x) for x in self.hidden_states],
        )


def ragged_to_length(values: Tensor, ragged: Ragged, length: int) -> Tensor:
    """(T, ...) to (B, length, ...), zero behind the end of each sequence."""
    padded = ragged.to_padded(values)
    missing = length - padded.shape[1]
    if not missing:
        return padded
    return torch.cat([padded, padded.new_zeros(padded.shape[0], missing, *padded.shape[2:])], 1)
