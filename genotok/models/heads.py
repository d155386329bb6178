"""From the states after the final norm to a score of every token."""

from torch import Tensor, nn
from torch.nn.functional import gelu

from genotok.kernels.token_loss import linear_cross_entropy
from genotok.models.norms import LayerNorm


class LinearHead(nn.Linear):
    """One matrix without a bias."""

    def __init__(self, width: int, vocab_size: int, norm_eps: float):
        super().__init__(width, vocab_size, bias=False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(T, D) to (T, V); given labels (T,), -100 for none, to the cross-entropy (T,) in nats and (T, V)."""
        return super().forward(x) if labels is None else linear_cross_entropy(x, self.weight, labels)


class RobertaHead(nn.Linear):
    """weight layer_norm(gelu(dense(x))) + bias, as RoBERTa and ESM predict masked tokens (arXiv 1907.11692)."""

    def __init__(self, width: int, vocab_size: int, norm_eps: float):
        super().__init__(width, vocab_size)
        self.dense = nn.Linear(width, width)
        self.norm = LayerNorm(width, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(T, D) to (T, V)."""
        return super().forward(self.norm(gelu(self.dense(x))))


HEADS = {"linear": LinearHead, "roberta": RobertaHead}
