"""Log-likelihood of nucleotides: what evaluation and scoring are made of."""

import torch
from torch import Tensor

from genotok.models.language_model import GenomicLM, ModelOutput
from genotok.tokenizers import IGNORED_LABEL


@torch.no_grad()
def next_token_log_likelihood(
    model: GenomicLM, input_ids: Tensor, labels: Tensor, lengths: Tensor
) -> tuple[Tensor, ModelOutput]:
    """log p(token t | tokens before t), in nats.

    Args:
        model: a causal model.
        input_ids: (B, L).
        labels: (B, L), -100 where nothing is to be counted (ambiguous letters, padding).
        lengths: (B,).

    Returns:
        (B, L) float32: the log-likelihood at each counted token, 0 elsewhere and at the first token, which
        nothing precedes; and the model's output.
    """
    output = model(input_ids, task="lm", lengths=lengths)
    log_probability = output.logits[:, :-1].float().log_softmax(-1)
    target = labels[:, 1:]
    counted = target != IGNORED_LABEL
    chosen = log_probability.gather(-1, target.clamp(min=0)[..., None])[..., 0]
    likelihood = torch.zeros(labels.shape, dtype=torch.float32, device=input_ids.device)
    likelihood[:, 1:] = chosen.masked_fill(~counted, 0.0)
    return likelihood, output
