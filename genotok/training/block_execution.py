"""How the blocks of a model run in training: with less memory, or compiled."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from genotok.kernels.less_kept import Level, less_kept
from genotok.models import GenomicLM
from genotok.models.blocks import Block

# The values of `activation_checkpointing` by which less is kept than operations would by themselves.
LESS_KEPT = {"none": Level.NOTHING, "light": Level.LIGHT, "projections": Level.PRODUCTS}


def run_blocks(model: GenomicLM, activation_checkpointing: str, compiled: bool) -> None:
    """Change how the blocks of a backbone run.

    Args:
        model: the model.
        activation_checkpointing: one of `LESS_KEPT`, or `blocks`: all of a block but what enters it is worked out
            again in the backward pass and not kept until then.
        compiled: whether `torch.compile` makes kernels of what follows the mixer in a block, norm and MLP, which work
            row by row: once, for any number of rows. Mixers have kernels of their own, through which it cannot see.
            Where it fails, blocks run as they are, and a sentence says so.
    """
    for block in (part for part in model.backbone.modules() if isinstance(part, Block)):
        if compiled and block.mlp is not None:
            block.after_mixer = _Compiled(block.after_mixer)
        if activation_checkpointing == "blocks":
            # No block draws random numbers, whose state a CUDA graph could not keep.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    level = LESS_KEPT.get(activation_checkpointing, Level.NOTHING)
    if level is not Level.NOTHING:
        # The model for what lies between its stacks of blocks; each block lets go of its own values when it ends.
        for part in (model, *(part for part in model.backbone.modules() if isinstance(part, Block))):
            part.forward = partial(_keeping_less, level, part.forward)


def _keeping_less(level: Level, forward: Callable, *inputs: Any, **named: Any) -> Any:
    with less_kept(level):
        return forward(*inputs, **named)


class _Compiled:
    """A compiled function that falls back on the function itself, for all blocks once one of them fails."""

    possible = True

    def __init__(self, function: Callable):
        self.function, self.compiled = function, torch.compile(function, dynamic=True)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if not _Compiled.possible:
            return self.function(*inputs, **named)
        try:
            return self.compiled(*inputs, **named)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            _Compiled.possible = False
            why = str(error).strip().split("\n")[0]
            print(f"compile: not possible here, and blocks run as they are: {why}", file=sys.stderr)
            return self.function(*inputs, **named)
