"""Log-likelihood of nucleotides: what evaluation and scoring are made of.

A causal model gives log p(token | tokens before it); what its letters have of that is told by the chain rule, see
`genotok.models.token_tree`. A model of masked tokens gives a pseudo-log-likelihood (arXiv 1910.14659): each token is
masked in its turn, and log p(token | all other tokens) takes the place.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models.language_model import GenomicLM
from genotok.models.output import ModelOutput
from genotok.models.token_tree import token_tree
from genotok.shards.sampler import Batch, collate
from genotok.tokenizers import IGNORED_LABEL, LetterTokenizer, Tokenizer

# Of the copies of windows, each with one token masked, that are run at once.
_MOST_TOKENS, _MOST_LOGITS = 1 << 15, 1 << 25


@torch.no_grad()
def next_token_log_likelihood(
    model: GenomicLM,
    input_ids: Tensor,
    labels: Tensor,
    lengths: Tensor,
    boundary_inputs: Tensor | None = None,
    output_hidden_states: bool = False,
) -> tuple[Tensor, ModelOutput]:
    """log p(token t | tokens before t), in nats.

    Args:
        model: a causal model.
        input_ids: (B, L).
        labels: (B, L), -100 where nothing is to be counted (ambiguous letters, padding).
        lengths: (B,).
        boundary_inputs: (B, L), see `GenomicLM.forward`.
        output_hidden_states: whether the output is to hold the states as well.

    Returns:
        (B, L) float32: the log-likelihood at each counted token, 0 elsewhere and at the first token, which
        nothing precedes; and the model's output.
    """
    settings = {"boundary_inputs": boundary_inputs, "output_hidden_states": output_hidden_states}
    output = model(input_ids, task="lm", lengths=lengths, **settings)
    log_probability = output.logits[:, :-1].float().log_softmax(-1)
    target = labels[:, 1:]
    counted = target != IGNORED_LABEL
    chosen = log_probability.gather(-1, target.clamp(min=0)[..., None])[..., 0]
    likelihood = torch.zeros(labels.shape, dtype=torch.float32, device=input_ids.device)
    likelihood[:, 1:] = chosen.masked_fill(~counted, 0.0)
    return likelihood, output


@torch.no_grad()
def token_log_likelihood(
    model: GenomicLM, batch: Batch, task: str | None = None, output_hidden_states: bool = False
) -> tuple[Tensor, ModelOutput | None]:
    """The log-likelihood of each token's new letters, in nats; their sum is that of a window.

    Args:
        model: of either task.
        batch: windows in the model's tokens, on its device.
        task: `lm` or `mlm`; None for the first of these among the model's tasks.
        output_hidden_states: whether the output of a causal model is to hold the states as well.

    Returns:
        (B, L) float32, 0 at tokens that are not counted; and the output of a causal model.

    Raises:
        InputError: the model has no likelihood.
    """
    task = task or likelihood_task(model)
    if task == "lm" and not model.tokenizer.overlap:
        parts = (batch.input_ids, batch.labels, batch.lengths, batch.boundary_inputs)
        return next_token_log_likelihood(model, *parts, output_hidden_states)
    letters, output = _letters_of_tokens(model, batch, task, output_hidden_states)
    return letters.sum(-1), output


@torch.no_grad()
def nucleotide_log_likelihood(
    model: GenomicLM, windows: Sequence[bytes] | Batch
) -> tuple[Tensor, ModelOutput | None]:
    """The log-likelihood of each nucleotide of windows, in nats, for every tokenizer and either task.

    A causal model: log p(nucleotide | tokens before its own, nucleotides before it in its token). Where k-mers
    overlap each has new letters only, given those that it shares with the k-mer before. A model of masked tokens:
    the same with all tokens but the nucleotide's own given.

    Args:
        model: of either task; where it knows both, the first of them counts.
        windows: letters, or a batch in the model's tokens on its device.

    Returns:
        (B, W) float32, W letters of the longest window: 0 at letters that are not certain, behind a window's end,
        and at a first letter that nothing precedes; and the output of a causal model.

    Raises:
        InputError: the model has no likelihood.
    """
    if not isinstance(windows, Batch):
        ids = [model.tokenizer.encode_letters(window) for window in windows]
        windows = collate(ids, model.tokenizer).to(model.device)
    letters, output = _letters_of_tokens(model, windows, likelihood_task(model))
    return _in_rows(letters, windows.letters), output


def likelihood_task(model: GenomicLM) -> str:
    """The first of the model's tasks that gives a likelihood, `lm` or `mlm`.

    Raises:
        InputError: it has neither.
    """
    for task in model.config.tasks:
        if task in ("lm", "mlm"):
            return task
    raise InputError(
        f"a model of the tasks {model.config.tasks!r} has no likelihood, which 'lm' or 'mlm' gives"
    )


def _letters_of_tokens(
    model: GenomicLM, batch: Batch, task: str, output_hidden_states: bool = False
) -> tuple[Tensor, ModelOutput | None]:
    """(B, L, longest token) float32: the log-likelihood of each token's first new letter, the second, ..."""
    causal = task == "lm"
    if isinstance(model.tokenizer, LetterTokenizer) and causal:
        likelihood, output = token_log_likelihood(model, batch, task, output_hidden_states)
        return likelihood[..., None], output
    tree = token_tree(model.tokenizer)
    longest = tree.path.shape[1]
    found = torch.zeros(*batch.labels.shape, longest, dtype=torch.float32, device=batch.labels.device)
    counted = batch.labels != IGNORED_LABEL
    if causal:
        counted[:, 0] = False
        output = model(
            batch.input_ids,
            task="lm",
            lengths=batch.lengths,
            boundary_inputs=batch.boundary_inputs,
            output_hidden_states=output_hidden_states,
        )
        parts = counted.nonzero().split(max(1, _MOST_LOGITS // model.config.vocab_size))
        blocks = ((*part.T, output.logits[part[:, 0], part[:, 1] - 1]) for part in parts)
    else:
        output, blocks = None, _masked_one_by_one(model, batch, counted)
    for rows, places, logits in blocks:
        ids, added = batch.labels[rows, places], batch.letters[rows, places]
        found[rows, places] = tree.letter_log_likelihood(logits.float().log_softmax(-1), ids, added)
    return found, output


def check_masked_tokens(tokenizer: Tokenizer) -> None:
    """Refuse tokens that have no likelihood when they are masked.

    Raises:
        InputError: there is no mask token, or neighbours hold the letters that it hides.
    """
    if tokenizer.mask_id is None:
        raise InputError(
            f"the tokenizer {tokenizer.name!r} has no mask token, so masked tokens have no likelihood"
        )
    if tokenizer.overlap:
        raise InputError(
            "a model of masked tokens has no likelihood where k-mers overlap, since neighbours hold the masked "
            "letters; take a stride of k"
        )


def _masked_one_by_one(
    model: GenomicLM, batch: Batch, counted: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows and places (N,) of tokens, and the logits (N, V) at each where it alone is masked."""
    tokenizer = model.tokenizer
    check_masked_tokens(tokenizer)
    length = batch.input_ids.shape[1]
    size = max(1, min(_MOST_TOKENS // length, _MOST_LOGITS // (length * model.config.vocab_size)))
    for block in counted.nonzero().split(size):
        rows, places = block.T
        copies = torch.arange(len(rows), device=rows.device)
        ids = batch.input_ids[rows]
        ids[copies, places] = tokenizer.mask_id
        inputs = None if batch.boundary_inputs is None else batch.boundary_inputs[rows]
        output = model(ids, task="mlm", lengths=batch.lengths[rows], boundary_inputs=inputs)
        yield rows, places, output.logits[copies, places]


def _in_rows(of_tokens: Tensor, letters: Tensor) -> Tensor:
    """(B, L, longest token) to (B, W): the first `letters` (B, L) of each token one behind the other."""
    ends = letters.sum(1)
    inside = torch.arange(of_tokens.shape[2], device=letters.device) < letters[..., None]
    width = torch.arange(int(ends.max()), device=letters.device)
    found = of_tokens.new_zeros(len(letters), len(width))
    found[width < ends[:, None]] = of_tokens[inside]
    return found
