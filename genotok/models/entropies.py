"""How unsure a causal model is of the token that comes next: what the entropy chunker cuts by."""

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genotok.kernels.ragged import Ragged
from genotok.models.cache import StageCache
from genotok.models.generation import allowed_ids
from genotok.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from genotok.models.language_model import GenomicLM

TOKENS_A_PASS = 1 << 17  # on a GPU; on the CPU each sequence has a pass of its own
BLOCK = 512  # rows for which the rows that they see in front of them are read again
SEGMENT = 1 << 15  # rows that a model of states reads at once
HEAD_ROWS = 1 << 15  # rows whose logits are held at once


def entropy(logits: Tensor, ids: Tensor | None = None) -> Tensor:
    """The entropy of softmax(logits) in nats.

    Args:
        logits: (..., V).
        ids: (K,) int64; when given, the distribution is restricted to these ids and sums to 1 over them.

    Returns:
        (...) float32, from 0 to ln V or ln K.
    """
    logits = logits.float() if ids is None else logits[..., ids].float()
    return torch.special.entr(logits.softmax(-1)).sum(-1)


@torch.no_grad()
def next_token_entropies(model: "GenomicLM", ids: Tensor, ragged: Ragged) -> Tensor:
    """At each token the entropy of the model's prediction of the next one.

    The prediction is restricted to the tokens written in A, C, G and T alone, since no others count in a
    likelihood, and renormalised over them: of single nucleotides the entropy is at most ln 4. It is float32 under
    any autocast.

    On the CPU every sequence is read in a pass of its own, so that its entropies are the same bits whatever else is
    in the batch; a GPU takes several at once. A model of attention blocks that all have a window reads long sequences
    in blocks, together with the rows in front that reach into a block; one of Mamba-2 blocks reads them in segments,
    each from the states that the one before it left. So their memory does not grow with the length. That of other
    models grows with the longest sequence.

    Args:
        model: a causal model of one stage.
        ids: (T,) token ids.
        ragged: their layout.

    Returns:
        (T,) float32, in nats.
    """
    lengths, values = ragged.host_lengths, []
    with torch.autocast(ids.device.type, enabled=False):
        for group in _passes(_pieces(lengths, _reach(model)), ids.device):
            rows = torch.cat([ids[begin:end] for begin, _, end in group])
            layout = Ragged.from_lengths(torch.tensor([end - begin for begin, _, end in group]), ids.device)
            found = _of_pass(model, rows, layout)
            parts = found.split([end - begin for begin, _, end in group])
            values += [part[first - begin :] for part, (begin, first, _) in zip(parts, group, strict=True)]
    return torch.cat(values)


@torch.no_grad()
def entropy_cache(model: "GenomicLM", ids: Tensor, ragged: Ragged) -> StageCache:
    """The model's cache behind each sequence of the (T,) ids, for `next_token_entropy_step`."""
    with torch.autocast(ids.device.type, enabled=False):
        return model.backbone.prefill(model.embedding(ids), ragged)[2]


@torch.no_grad()
def next_token_entropy_step(model: "GenomicLM", ids: Tensor, cache: StageCache) -> Tensor:
    """The entropy (B,) behind one further token (B,) of each sequence; the cache is brought up to date."""
    with torch.autocast(ids.device.type, enabled=False):
        return _of_states(model, model.backbone.step(model.embedding(ids), cache))


def _of_pass(model: "GenomicLM", ids: Tensor, layout: Ragged) -> Tensor:
    if layout.batch > 1 or layout.total <= SEGMENT or not _has_only(model, "mamba2"):
        return _of_states(model, model.backbone(model.embedding(ids), layout)[0])
    found, before = [], None
    for part in ids.split(SEGMENT):
        rows = Ragged.uniform(1, len(part), ids.device)
        states, before = model.backbone.encoder.prefill(model.embedding(part), rows, before=before)
        found.append(_of_states(model, states))
    return torch.cat(found)


def _of_states(model: "GenomicLM", states: Tensor) -> Tensor:
    ids = _counted_ids(model.config.tokenizer, states.device)
    return torch.cat([entropy(model.head(part), ids) for part in states.split(HEAD_ROWS)])


@cache
def _counted_ids(tokenizer: str, device: torch.device) -> Tensor:
    return allowed_ids(load_tokenizer(tokenizer), nucleotides_only=True).to(device)


def _reach(model: "GenomicLM") -> int | None:
    """How many rows in front of a row can matter to it; None for all of them."""
    window = model.config.attention.window[0]
    limited = window >= 0 and _has_only(model, "attention")
    return window * len(model.config.stage_layout.encoder) if limited else None


def _has_only(model: "GenomicLM", mixer: str) -> bool:
    """Whether all blocks have this mixer, and no row knows its place in the sequence."""
    mixers = {block.mixer for block in model.config.stage_layout.encoder}
    return mixers == {mixer} and not any(model.config.positions)


def _pieces(lengths: list[int], reach: int | None) -> list[tuple[int, int, int]]:
    """Of each piece of the packed rows: where it begins, where the part that counts begins, and where it ends."""
    pieces, offset = [], 0
    for length in lengths:
        step = length if reach is None or length <= BLOCK + reach else BLOCK
        for first in range(0, length, step):
            begin = 0 if reach is None else max(first - reach, 0)
            pieces.append((offset + begin, offset + first, offset + min(first + step, length)))
        offset += length
    return pieces


def _passes(pieces: list[tuple[int, int, int]], device: torch.device) -> list[list[tuple[int, int, int]]]:
    """The pieces, grouped by what is read at once."""
    groups: list[list[tuple[int, int, int]]] = []
    room = 0
    for piece in pieces:
        size = piece[2] - piece[0]
        if size > room:
            groups.append([])
            room = TOKENS_A_PASS if device.type != "cpu" else 0
        groups[-1].append(piece)
        room -= size
    return groups
