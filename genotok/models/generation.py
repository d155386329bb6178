"""Sampling sequences from a causal model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models.fixed_generation import FixedContinuation
from genotok.tokenizers.base import Tokenizer, checked_letters

if TYPE_CHECKING:
    from genotok.models.language_model import GenomicLM

WAYS = ("auto", "plain", "fixed", "graph")
LEAST_GRAPHED = 32  # tokens from which on recording a graph pays off


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: how many of the likeliest tokens may be taken; None for all.
        top_p: the likeliest tokens are taken until their probabilities sum to this (nucleus sampling, arXiv
            1904.09751); None for all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled by."""
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature: {self.temperature} should be a number, at least 0")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k: {self.top_k} should be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p: {self.top_p} should be above 0 and at most 1")


@torch.no_grad()
def generate(
    model: "GenomicLM",
    prompts: Sequence[Tensor | str],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    nucleotides_only: bool = True,
    batch_size: int = 64,
    on_step: Callable[[int], None] | None = None,
    way: str = "auto",
) -> Tensor:
    """Continue prompts, token by token, with a cache.

    The same model, prompts, settings and seed give the same tokens on the same device. The random numbers of a
    prompt depend on the seed, on its place in the list and on `length` alone.

    Args:
        model: a causal model.
        prompts: letters, or (L,) token ids. The tokenizer's start token is put in front where it has one and the
            ids do not begin with it. Where it has none, a prompt needs at least one token.
        length: how many tokens to add to each prompt.
        temperature, top_k, top_p: see `Sampling`.
        seed: of the random numbers.
        nucleotides_only: whether only tokens that are written in A, C, G and T alone may be emitted, so neither
            special tokens nor ambiguity codes; otherwise any token of the tokenizer.
        batch_size: how many prompts are continued at once.
        on_step: called after each step with the number of tokens added in it.
        way: how steps are run, which changes speed and rounding only. `plain`: the stages inside read the sequences
            in which a chunk begins. `fixed`: they read all, so that shapes stay the same. `graph`: the same, recorded
            as a CUDA graph and replayed. `auto`: `graph` on a GPU from `LEAST_GRAPHED` tokens on, else `plain`.

    Returns:
        (B, length) int64 on the CPU: the added tokens. `added_letters` makes letters of a row. A prompt's letters
        that fill no k-mer are single tokens, which a model has met at the end of a window only: it goes on best
        from whole k-mers. Overlapping k-mers are chosen to agree in the letters that they share.

    Raises:
        InputError: a setting is out of range, or a prompt is empty or holds what the model cannot read.
    """
    sampling = Sampling(temperature, top_k, top_p)
    if length < 0:
        raise InputError(f"length: {length} should be at least 0")
    if batch_size < 1:
        raise InputError(f"batch_size: {batch_size} should be at least 1")
    way = _checked_way(way, model.device, length)
    ids = [prompt_ids(model, prompt, place) for place, prompt in enumerate(prompts)]
    allowed = allowed_ids(model.tokenizer, nucleotides_only).to(model.device)
    chooser = Chooser(model.tokenizer, allowed, sampling)
    random = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(ids), length, dtype=torch.float64, generator=random)
    generated = torch.empty(len(ids), length, dtype=torch.long)
    if length == 0:
        return generated
    for first in range(0, len(ids), batch_size):
        batch = slice(first, first + batch_size)
        generated[batch] = _continue(model, ids[batch], uniform[batch], chooser, way, on_step)
    return generated


def _checked_way(way: str, device: torch.device, length: int) -> str:
    if way not in WAYS:
        raise InputError(f"way: {way!r} is unknown; there are {', '.join(WAYS)}")
    if way == "graph" and device.type != "cuda":
        raise InputError("way: 'graph' needs a CUDA device; use plain or fixed")
    if way != "auto":
        return way
    return "graph" if device.type == "cuda" and length >= LEAST_GRAPHED else "plain"


def _continue(
    model: "GenomicLM",
    prompts: list[Tensor],
    uniform: Tensor,
    chooser: "Chooser",
    way: str,
    on_step: Callable[[int], None] | None,
) -> Tensor:
    def stepped() -> None:
        if on_step is not None:
            on_step(len(prompts))

    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    padded = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(model.device)
    uniform = uniform.to(model.device)
    logits, cache = model.prefill(padded, lengths)
    last = chooser(logits, padded.gather(1, lengths[:, None] - 1)[:, 0], uniform[:, 0])
    stepped()
    if way != "plain":
        fixed = FixedContinuation(model, cache, last, uniform, chooser)
        return fixed.run(way == "graph", stepped).cpu()
    chosen = [last]
    for place in range(1, uniform.shape[1]):
        last = chooser(model.step(last, cache), last, uniform[:, place])
        chosen.append(last)
        stepped()
    return torch.stack(chosen, 1).cpu()


class Chooser:
    """Chooses the next tokens of a batch.

    Args:
        tokenizer: of the tokens.
        allowed: (K,) the ids that may be emitted.
        sampling: how.
    """

    def __init__(self, tokenizer: Tokenizer, allowed: Tensor, sampling: Sampling):
        self.allowed, self.sampling = allowed, sampling
        self.follows = Overlaps(tokenizer, allowed) if tokenizer.overlap else None

    def __call__(self, logits: Tensor, last: Tensor, uniform: Tensor) -> Tensor:
        """(B,) int64, from logits (B, V), the tokens in front (B,) and random numbers (B,) float64 in [0, 1)."""
        candidates = logits[:, self.allowed]
        if self.follows is not None:
            candidates = candidates.masked_fill(~self.follows(last), -torch.inf)
        return self.allowed[choose(candidates, uniform, self.sampling)]


def choose(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Choose a token in each row by inverting the cumulative probabilities.

    Args:
        logits: (B, V).
        uniform: (B,) float64 random numbers in [0, 1).
        sampling: how to choose; ties of the likeliest go to the lower id.

    Returns:
        (B,) int64.
    """
    logits = logits.double()
    if sampling.temperature == 0:
        return logits.argmax(-1)
    # The largest becomes 0 first, so that a tiny temperature makes no infinities.
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    logits, ids = logits.sort(stable=True, dim=-1, descending=True)
    probability = logits.softmax(-1)
    if sampling.top_k is not None:
        probability[:, sampling.top_k :] = 0
    if sampling.top_p is not None:
        probability = probability / probability.sum(-1, keepdim=True)
        before = probability.cumsum(-1) - probability
        probability[before >= sampling.top_p] = 0
    cumulative = probability.cumsum(-1)
    place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    # Rounding must not lead to a token of probability 0.
    place = torch.minimum(place, (probability > 0).sum(-1, keepdim=True) - 1)
    return ids.gather(-1, place)[:, 0]


class Overlaps:
    """Which of the allowed tokens may stand behind a token where k-mers overlap: those that begin as it ends.

    Args:
        tokenizer: of overlapping k-mers.
        allowed: (K,) the tokens that may be emitted.
    """

    def __init__(self, tokenizer: Tokenizer, allowed: Tensor):
        longest, shared = max(tokenizer.letter_counts), tokenizer.overlap
        written = [letters if len(letters) == longest else "" for letters in tokenizer.token_letters]
        groups = {letters: i for i, letters in enumerate(sorted({letters[:shared] for letters in written}))}
        begin = torch.tensor([groups[letters[:shared]] for letters in written], device=allowed.device)
        self.begin = begin[allowed]
        self.end = torch.tensor([groups[letters[-shared:]] for letters in written], device=allowed.device)

    def __call__(self, last: Tensor) -> Tensor:
        """(B, K) bool, for the (B,) tokens in front; all but k-mers are of group 0, which goes with every other."""
        end = self.end[last][:, None]
        return (self.begin == end) | (self.begin == 0) | (end == 0)


def allowed_ids(tokenizer: Tokenizer, nucleotides_only: bool) -> Tensor:
    """(K,) int64, the ids that may be emitted: those written in the alphabet's letters alone, or all."""
    if not nucleotides_only:
        return torch.arange(tokenizer.vocab_size)
    letters = set(tokenizer.alphabet)
    return torch.tensor(
        [
            i
            for i in tokenizer.is_nucleotide.nonzero()[0].tolist()
            if set(tokenizer.token_letters[i]) <= letters
        ]
    )


def added_letters(tokenizer: Tokenizer, prompt: Tensor, added: Tensor) -> str:
    """What tokens that were added to a prompt are written as; without the letters that they share with its last."""
    read = tokenizer.decode
    return read([*prompt.tolist(), *added.tolist()])[len(read(prompt.tolist())) :]


def prompt_ids(model: "GenomicLM", prompt: Tensor | str, place: int = 0) -> Tensor:
    """(L,) int64 on the CPU: a prompt's tokens behind the start token, if the tokenizer has one.

    Raises:
        InputError: the prompt is empty or holds what the model cannot read; `place` is its number in the list.
    """
    tokenizer = model.tokenizer
    if isinstance(prompt, str):
        letters = checked_letters(prompt, f"prompt {place + 1}", model.tokenizer.alphabets[0])
        ids = torch.tensor(tokenizer.encode(letters), dtype=torch.long)
    else:
        ids = prompt.detach().cpu().long()
        rows = model.config.vocab_size
        if ids.ndim != 1 or (len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < rows):
            raise InputError(f"prompt {place + 1}: should hold ids from 0 to {rows - 1} in one dimension")
    start = tokenizer.start_id
    if start is not None and ids[:1].tolist() != [start]:
        ids = torch.cat([torch.tensor([start]), ids])
    if len(ids) == 0:
        raise InputError(
            f"prompt {place + 1}: is empty; the tokenizer {tokenizer.name} has no start token, so give a letter"
        )
    return ids
