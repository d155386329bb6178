"""The last projection and the cross-entropy behind it, for vocabularies of a few letters."""

from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from genotok.kernels.backend import uses_triton
from genotok.kernels.rounding import product_dtype

LARGEST_VOCABULARY = 64
IGNORED = -100


def is_fused(states: Tensor, vocabulary: int) -> bool:
    """Whether `linear_cross_entropy` of these states and so many tokens is one pass over memory."""
    return uses_triton(states) and vocabulary <= LARGEST_VOCABULARY


def linear_cross_entropy(states: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits without a bias, and the cross-entropy of a label under each row of them.

    In Triton the states are read once in each direction. Vocabularies of more than `LARGEST_VOCABULARY` tokens
    take the reference.

    Args:
        states: (T, D).
        weight: (V, D).
        labels: (T,) int64; -100 where nothing is to be predicted.

    Returns:
        (T,) float32 in nats, 0 where nothing is to be predicted; and (T, V), in the precision of the autocast.
    """
    if is_fused(states, len(weight)):
        from genotok.kernels import triton_token_loss

        return triton_token_loss.linear_cross_entropy(
            states, weight, labels, product_dtype(states, states.dtype)
        )
    logits = linear(states, weight)
    return cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none"), logits
