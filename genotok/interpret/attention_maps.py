"""What the attention layers of a model look at in a region."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from genotok.genomes.regions import Region
from genotok.interpret.attribution_targets import window_around
from genotok.models import GenomicLM
from genotok.models.blocks import BlockStack
from genotok.models.chunkers.spans import chunk_starts
from genotok.models.mixers.attention import Attention
from genotok.models.stage import Stage
from genotok.shards.sampler import Batch, collate
from genotok.variants.letters import ContigLetters

NO_ATTENTION = "This model has no attention layer: its mixers are {mixers}, which make no maps."


@dataclass
class AttentionMap:
    """The weights of one attention layer; coordinates are 0-based and half-open.

    Attributes:
        layer: its place, as `stage1.encoder.0`.
        stage: the stage whose rows attend to each other: 0 for tokens, 1 for chunks of stage 0, and so on.
        queries: (Q, 2) int64 start and end, on the contig, of each row that overlaps the region.
        keys: (K, 2) int64, the same of every row of the window. A start token has no letters: its end is its start.
        weights: (H, Q, K) float32; each query's sum to 1.
    """

    layer: str
    stage: int
    queries: np.ndarray
    keys: np.ndarray
    weights: np.ndarray


@torch.no_grad()
def attention_maps(
    model: GenomicLM, letters: ContigLetters, region: Region, window: int | None
) -> list[AttentionMap]:
    """The maps of all attention layers, from the tokens' stage inwards.

    The model reads the forward strand once, without autocast; one layer's weights of the whole window are in memory
    at a time, heads x rows x rows.

    Args:
        model: with any tokenizer and mixers; none gives an empty list.
        letters: of the forward strand.
        region: whose rows are the queries.
        window: letters that the model reads, with the region in the middle; None for the region alone.

    Raises:
        InputError: the region is longer than the window, or the model needs boundaries that are not given.
    """
    begin, end = window_around(region, letters.length, window)
    batch = collate([model.tokenizer.encode_letters(letters.fetch(begin, end))], model.tokenizer)
    batch = batch.to(model.device)
    found: list[tuple[str, int, Tensor]] = []
    layers = list(_layers(model.backbone, 0))
    if not layers:
        return []
    boundaries = model(batch.input_ids).packed_boundaries
    spans = row_spans(batch, chunk_starts(boundaries), begin)
    inside = [(of[:, 1] > region.start) & (of[:, 0] < region.end) for of in spans]
    with ExitStack() as stack:
        for name, stage, layer in layers:
            kept = torch.from_numpy(inside[stage]).to(model.device)
            handle = layer.register_forward_hook(_keep(found, name, stage, kept))
            stack.callback(handle.remove)
        model(batch.input_ids)
    return [
        AttentionMap(name, stage, spans[stage][inside[stage]], spans[stage], weights.cpu().numpy())
        for name, stage, weights in found
    ]


def row_spans(batch: Batch, starts: list[Tensor], begin: int) -> list[np.ndarray]:
    """Where the rows of each stage lie on the contig, (R, 2) int64 start and end, tokens first.

    Args:
        batch: of one sequence.
        starts: the tokens at which the chunks of each stage begin, see `chunk_starts`.
        begin: position of the window's first letter.
    """
    letters = batch.letters[0].cpu().numpy()
    edges = begin + np.append(0, letters.cumsum())
    spans = [np.stack([edges[:-1], edges[1:]], 1)]
    for rows in starts:
        first = rows.cpu().numpy()
        spans.append(np.stack([edges[first], edges[np.append(first[1:], len(letters))]], 1))
    return spans


def mixer_kinds(model: GenomicLM) -> list[str]:
    """The names of the kinds of mixers that a model has."""
    return sorted(
        {
            type(part).__name__
            for part in model.backbone.parts_with_memory()
            if not type(part).__name__.endswith("Chunker")
        }
    )


def _keep(found: list, name: str, stage: int, kept: Tensor):
    def hook(layer: Attention, inputs: tuple, output: Tensor) -> None:
        found.append((name, stage, layer.weights(*inputs)[0][:, kept]))

    return hook


def _layers(stage: Stage, index: int) -> Iterator[tuple[str, int, nn.Module]]:
    """Name, stage and module of the attention layers in the order of running."""

    def of(part: str, blocks: BlockStack) -> Iterator[tuple[str, int, nn.Module]]:
        for number, block in enumerate(blocks.blocks):
            if isinstance(block.mixer, Attention):
                yield f"stage{index}.{part}.{number}", index, block.mixer

    yield from of("encoder", stage.encoder)
    if stage.inner is not None:
        yield from _layers(stage.inner, index + 1)
        yield from of("decoder", stage.decoder)
