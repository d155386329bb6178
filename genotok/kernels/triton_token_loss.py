"""The last projection and its cross-entropy in Triton: states are read once forwards and once backwards."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from genotok.kernels.backend import multiprocessors
from genotok.kernels.tile_sizes import cdiv, next_power_of_2

ROWS = 64
FEATURES = 128  # read at a time in the forward pass, and a program's share in the backward pass
PROGRAMS = 4  # a multiprocessor and share, in the backward pass
_IGNORED = tl.constexpr(-100)


def linear_cross_entropy(
    states: Tensor, weight: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As `genotok.kernels.token_loss.linear_cross_entropy`, with products of numbers of the given type."""
    with torch.cuda.device_of(states):
        return _Loss.apply(states, weight, labels, dtype)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states, weight, labels, dtype):
        states, labels = states.contiguous(), labels.contiguous()
        weight_used = weight.to(dtype).contiguous()
        (total, width), vocabulary = states.shape, len(weight)
        logits = states.new_empty(total, vocabulary, dtype=dtype)
        loss = states.new_empty(total, dtype=torch.float32)
        _forward[(cdiv(total, ROWS),)](
            states,
            weight_used,
            labels,
            loss,
            logits,
            total,
            width,
            vocabulary,
            **_settings(vocabulary),
            num_warps=4,
        )
        ctx.save_for_backward(states, weight_used, labels, logits)
        ctx.weight_dtype = weight.dtype
        ctx.set_materialize_grads(False)
        return loss, logits

    @staticmethod
    def backward(ctx, to_loss, to_logits):
        states, weight, labels, logits = ctx.saved_tensors
        (total, width), vocabulary = states.shape, len(weight)
        shares = cdiv(width, FEATURES)
        programs = min(cdiv(total, ROWS), PROGRAMS * multiprocessors(states.device))
        to_states = torch.empty_like(states)
        to_weight = states.new_empty(programs, vocabulary, width, dtype=torch.float32)
        _backward[(programs, shares)](
            states if to_loss is None else to_loss.contiguous(),
            states if to_logits is None else to_logits.contiguous(),
            states,
            weight,
            labels,
            logits,
            to_states,
            to_weight,
            total,
            width,
            vocabulary,
            programs,
            OF_LOSS=to_loss is not None,
            OF_LOGITS=to_logits is not None,
            **_settings(vocabulary),
            num_warps=4,
        )
        return to_states, to_weight.sum(0).to(ctx.weight_dtype), None, None


def _settings(vocabulary: int) -> dict[str, int]:
    return {"ROWS": ROWS, "FEATURES": FEATURES, "TOKENS": max(16, next_power_of_2(vocabulary))}


@triton.jit
def _forward(
    states,
    weight,
    labels,
    loss,
    logits,
    total,
    width,
    vocabulary,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    tokens, inside = tl.arange(0, TOKENS), rows < total
    known = tokens < vocabulary
    found = tl.zeros([ROWS, TOKENS], tl.float32)
    for start in range(0, width, FEATURES):
        features = start + tl.arange(0, FEATURES)
        there = features < width
        x = tl.load(states + rows[:, None] * width + features[None, :], inside[:, None] & there[None, :], 0.0)
        w = tl.load(
            weight + tokens[None, :] * width + features[:, None], known[None, :] & there[:, None], 0.0
        )
        found = tl.dot(x.to(weight.dtype.element_ty), w, found, input_precision="ieee")
    found = tl.where(known[None, :], found, float("-inf"))
    highest = tl.max(found, 1)
    log_total = highest + tl.log(tl.sum(tl.exp(found - highest[:, None]), 1))
    label = tl.load(labels + rows, inside, _IGNORED)
    of_label = tl.sum(tl.where(tokens[None, :] == label[:, None], found, 0.0), 1)
    tl.store(loss + rows, tl.where(label == _IGNORED, 0.0, log_total - of_label), inside)
    place = rows[:, None] * vocabulary + tokens[None, :]
    tl.store(logits + place, found.to(logits.dtype.element_ty), inside[:, None] & known[None, :])


@triton.jit
def _backward(
    to_loss,
    to_logits,
    states,
    weight,
    labels,
    logits,
    to_states,
    to_weight,
    total,
    width,
    vocabulary,
    programs,
    OF_LOSS: tl.constexpr,
    OF_LOGITS: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    features = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    tokens, there = tl.arange(0, TOKENS), (features < width)[None, :]
    known = (tokens < vocabulary)[None, :]
    element = weight.dtype.element_ty
    w = tl.load(
        weight + tokens[:, None] * width + features[None, :], (tokens < vocabulary)[:, None] & there, 0.0
    )
    to_w = tl.zeros([TOKENS, FEATURES], tl.float32)
    for start in range(program * ROWS, total, programs * ROWS):
        rows = start + tl.arange(0, ROWS)
        inside = (rows < total)[:, None]
        place = rows[:, None] * vocabulary + tokens[None, :]
        gradient = tl.zeros([ROWS, TOKENS], tl.float32)
        if OF_LOSS:
            label = tl.load(labels + rows, rows < total, _IGNORED)
            scale = tl.where(label == _IGNORED, 0.0, tl.load(to_loss + rows, rows < total, 0.0))
            found = tl.load(logits + place, inside & known, 0.0).to(tl.float32)
            found = tl.where(known, found, float("-inf"))
            share = tl.exp(found - tl.max(found, 1)[:, None])
            share = share / tl.sum(share, 1)[:, None]
            gradient = scale[:, None] * (share - tl.where(tokens[None, :] == label[:, None], 1.0, 0.0))
        if OF_LOGITS:
            gradient += tl.load(to_logits + place, inside & known, 0.0).to(tl.float32)
        gradient = gradient.to(element)
        at = rows[:, None] * width + features[None, :]
        x = tl.load(states + at, inside & there, 0.0).to(element)
        to_x = tl.dot(gradient, w, input_precision="ieee")
        to_w = tl.dot(tl.trans(gradient), x, to_w, input_precision="ieee")
        tl.store(to_states + at, to_x.to(to_states.dtype.element_ty), inside & there)
    at = (program * vocabulary + tokens[:, None]) * width + features[None, :]
    tl.store(to_weight + at, to_w, (tokens < vocabulary)[:, None] & there)
