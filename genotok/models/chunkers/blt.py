"""Patches exactly as the Byte Latent Transformer's patcher cuts them (arXiv 2412.09871)."""

import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.models.chunkers.entropy import starts_behind
from genotok.models.chunkers.length_limits import split_long_chunks

OFFSET = 4  # a byte's token id is the byte + 4; below it are special tokens
BPE_ID = 3  # the special token that stands in front of each BPE token
BLT_THRESHOLD = 1.335442066192627  # nats; BLT's own, for text
MODES = ("entropy", "bpe", "bpe_patcher", "space", "static", "byte")


def blt_patch_lengths(
    token_ids: Tensor,
    mode: str,
    entropies: Tensor | None = None,
    threshold: float | None = BLT_THRESHOLD,
    threshold_add: float | None = None,
    monotonicity: bool = False,
    patch_size: float = 4.5,
    max_patch_length: int | None = None,
    include_next_token: bool = False,
    predicted_ids: Tensor | None = None,
) -> Tensor:
    """The lengths of the patches that BLT makes of each row; rows do not influence each other.

    Except in the modes `static` and `byte`, the first patch of a row is its first token.

    Args:
        token_ids: (B, L) ids as BLT's tokenizer gives them: bytes are shifted by 4, and 3 is BPE's delimiter.
        mode: `entropy`, a patch begins behind a token whose prediction of the next one has high entropy;
            `space`, behind the first of a run of bytes that are no letters or digits; `bpe`, behind a
            delimiter; `bpe_patcher`, where a model predicts a delimiter; `static`, every `patch_size` tokens;
            `byte`, at every token.
        entropies: (B, L) in nats, for the mode `entropy`: at t that of the prediction of token t + 1.
        threshold: in nats. None takes the highest entropies of the whole row, as many as make patches of
            `patch_size` on average; this is the one rule that looks ahead.
        threshold_add, monotonicity: see `genotok.models.chunkers.entropy.starts_behind`.
        patch_size: of the mode `static` (a whole number), and where there is no threshold.
        max_patch_length: longer patches are cut into pieces of this length and a rest.
        include_next_token: whether the token that follows the row is counted, so that lengths sum to L + 1.
        predicted_ids: (B, L), for the mode `bpe_patcher`: at t the id that a model predicts for token t + 1.

    Returns:
        (B, P) int64, 0 behind the last patch of a row.

    Raises:
        InputError: the mode is unknown, or what it needs is missing or has another shape.
    """
    tokens = torch.as_tensor(token_ids)
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(f"token_ids must be (batch, length), both at least 1, not {tuple(tokens.shape)}")
    if max_patch_length is not None and max_patch_length < 1:
        raise InputError(f"max_patch_length: {max_patch_length} must be at least 1")
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    if mode == "entropy":
        scores = _like("entropies", entropies, tokens, mode).float()
        if threshold is None:
            behind = _behind_highest(scores, patch_size)
        else:
            behind = starts_behind(scores, positions, threshold, threshold_add, monotonicity)
    elif mode == "space":
        behind = _behind_spaces(tokens)
    elif mode == "bpe":
        # BLT does not look at the last token, even where the token behind it is counted.
        behind = (tokens == BPE_ID) & (positions < tokens.shape[1] - 1)
    elif mode == "bpe_patcher":
        behind = _like("predicted_ids", predicted_ids, tokens, mode) == BPE_ID
    elif mode in ("static", "byte"):
        behind = ((positions + 1) % (_whole(patch_size) if mode == "static" else 1) == 0).expand(tokens.shape)
    else:
        raise InputError(f"mode: {mode!r} is unknown; there are {', '.join(MODES)}")
    if mode not in ("static", "byte"):
        behind = behind | (positions == 0)
    starts = torch.cat([torch.ones_like(behind[:, :1]), behind], 1)
    starts = starts if include_next_token else starts[:, :-1]
    return _lengths(starts if max_patch_length is None else split_long_chunks(starts, max_patch_length))


def _behind_highest(entropies: Tensor, patch_size: float) -> Tensor:
    """(B, L) bool, true at the highest entropies; the first is left out, since a patch begins behind it anyway."""
    count = max(int(entropies.shape[1] // patch_size) - 2, 0)
    highest = entropies[:, 1:].topk(count, dim=1).indices + 1
    return torch.zeros_like(entropies, dtype=torch.bool).scatter(1, highest, True)


def _behind_spaces(tokens: Tensor) -> Tensor:
    """(B, L) bool, true at the first byte of a run that belongs to no word, and at special tokens."""
    byte = tokens - OFFSET
    word = (byte >= 0x80) & (byte < 0xC0)  # inside a character of UTF-8
    for first, last in ("09", "AZ", "az"):
        word |= (byte >= ord(first)) & (byte <= ord(last))
    begins = ~word
    begins[:, 1:] &= word[:, :-1]
    return begins | (tokens < OFFSET)


def _lengths(starts: Tensor) -> Tensor:
    """(B, N) bool starts to (B, P) lengths."""
    patch = starts.cumsum(1) - 1
    lengths = patch.new_zeros(len(patch), int(patch[:, -1].max()) + 1)
    return lengths.scatter_add(1, patch, torch.ones_like(patch))


def _like(name: str, values: Tensor | None, tokens: Tensor, mode: str) -> Tensor:
    if values is None:
        raise InputError(f"{name}: the mode {mode!r} needs them")
    values = torch.as_tensor(values, device=tokens.device)
    if values.shape != tokens.shape:
        raise InputError(f"{name}: the shape {tuple(values.shape)} is not {tuple(tokens.shape)} of token_ids")
    return values


def _whole(patch_size: float) -> int:
    if patch_size != int(patch_size) or patch_size < 1:
        raise InputError(f"patch_size: {patch_size} must be a whole number, at least 1, for static patches")
    return int(patch_size)
