"""`genotok evaluate`: how many bits a model needs for each base of held-out contigs, beside honest baselines."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.evaluation.adaptive_markov import AdaptiveMarkov
from genotok.evaluation.length_histogram import listed_lengths
from genotok.evaluation.letter_markov import fit_letter_baselines, letter_codes
from genotok.evaluation.markov import Baseline, fit_markov_baselines
from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.spans import chunk_lengths
from genotok.models.likelihood import likelihood_task, nucleotide_log_likelihood
from genotok.progress import progress
from genotok.shards.manifest import Manifest, read_manifest
from genotok.shards.reader import ShardDataset, Window, contig_sequences
from genotok.shards.sampler import batches_in_order
from genotok.training.columns import column_for
from genotok.training.precision import autocast, choose_device


@dataclass
class Tally:
    """Bits and certain nucleotides of one contig, and letters that are ambiguous and do not count."""

    bits: float = 0.0
    nucleotides: int = 0
    ambiguous: int = 0

    def per_base(self) -> float | None:
        """Bits per base; None where there is no certain nucleotide."""
        return self.bits / self.nucleotides if self.nucleotides else None


@dataclass
class Chunks:
    """Chunks of each stage by length in letters, and letters seen."""

    letters: int = 0
    lengths: list[Counter] = field(default_factory=list)

    def add(self, output: ModelOutput, letters: Tensor) -> None:
        """Count the chunks of one batch, whose tokens add so many `letters` (B, L)."""
        if not output.packed_boundaries:
            return
        packed = output.packed_boundaries[0].ragged.to_packed(letters)
        stages = chunk_lengths(output.packed_boundaries, letters=packed)
        self.lengths = self.lengths or [Counter() for _ in stages]
        for counter, lengths in zip(self.lengths, stages, strict=True):
            values, counts = lengths.unique(return_counts=True)
            counter.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self.letters += int(stages[0].sum())

    def summary(self) -> list[dict[str, Any]]:
        """One entry a stage: chunks, mean length in bases, and how many chunks have each length."""
        stages = []
        for index, counter in enumerate(self.lengths):
            chunks = sum(counter.values())
            stages.append(
                {
                    "stage": index,
                    "chunks": chunks,
                    "mean_length": self.letters / chunks,
                    "lengths": listed_lengths(counter),
                }
            )
        return stages


def evaluate(
    model_folder: Path,
    shards: Path,
    *,
    split: str = "test",
    batch_size: int = 16,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
    orders: tuple[int, ...] = (2, 4, 8, 11),
) -> dict[str, Any]:
    """Evaluate a model on a split, beside Markov models trained on the split `train` of the same shards.

    Bits per base are the sum of -log2 p over the certain nucleotides, divided by their number; ambiguous
    letters are left out. Where windows overlap, each nucleotide counts once, in the first window that holds it.
    The likelihood of a nucleotide is that of `genotok.models.likelihood`, for every tokenizer; a model of masked
    tokens sees both sides of each, so that its bits are not those of a model that reads from the left.
    The Markov models are tuned on the split `valid` where there is one. `adaptive` learns from the contig itself
    while it reads, as a compressor does; it is no rival of a frozen model, but says what a contig tells of itself.
    Of proteins and mixtures a base is a letter, the Markov models are those of `letter_markov`, and there is no
    `adaptive`.

    Returns:
        JSON values without anything that depends on the clock: the same input gives the same bytes.

    Raises:
        InputError: model or shards cannot be read, or do not fit together.
    """
    torch.set_num_threads(threads)
    target = choose_device(device)
    model = GenomicLM.from_pretrained(model_folder, target)
    dataset = ShardDataset(shards, split)
    dataset.manifest.check_serves(model.tokenizer, f"{model_folder}: its tokenizer is")
    column = column_for(model, dataset, likelihood_task(model), exact=True)
    tallies, chunks = _model_bits(model, dataset, batch_size, precision, column)
    baselines = baseline_bits(shards, split, orders)
    learning = {"adaptive": AdaptiveMarkov()} if _has_four_letters(dataset.manifest) else {}
    adaptive = contig_bits(shards, split, learning).get("adaptive", {})
    return {
        "split": split,
        "model_sha256": model.content_hash(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "window": dataset.manifest.window,
        "model": _total(tallies),
        "baselines": {name: _total(contigs) for name, contigs in baselines.items()},
        "adaptive": _total(adaptive),
        "contigs": [
            {
                "genome": genome,
                "contig": contig,
                **_entry(tally),
                "baselines": {
                    name: contigs[genome, contig].per_base() for name, contigs in baselines.items()
                },
            }
            for (genome, contig), tally in tallies.items()
        ],
        "stages": chunks.summary(),
    }


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics as JSON, the same bytes every time."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")


def _model_bits(
    model: GenomicLM, dataset: ShardDataset, batch_size: int, precision: str, column: str | None
) -> tuple[dict[tuple[str, str], Tally], Chunks]:
    tallies: dict[tuple[str, str], Tally] = {}
    chunks = Chunks()
    for window, bits, begin in window_bits(model, dataset, batch_size, precision, column, chunks):
        _count(tallies.setdefault((window.genome, window.contig), Tally()), window, bits, begin)
    return tallies, chunks


def window_bits(
    model: GenomicLM,
    dataset: ShardDataset,
    batch_size: int,
    precision: str = "auto",
    column: str | None = None,
    chunks: Chunks | None = None,
) -> Iterator[tuple[Window, np.ndarray, int]]:
    """Read all windows of a split, in order.

    Args:
        model: in evaluation mode.
        dataset: the split.
        batch_size: windows at once.
        precision: `auto`, `fp32` or `bf16`.
        column: see `genotok.training.columns.column_for`.
        chunks: where the model's chunks are counted; None for nowhere.

    Yields:
        The window; (L,) float64 bits of its letters, 0 at those that are ambiguous; and the letter from which on
        they count, since those before stand in the window before as well, or have nothing to be predicted from.
    """
    before, unpredicted = None, int(model.tokenizer.start_id is None)
    with progress("evaluate", len(dataset), "windows") as bar:
        for windows, batch in batches_in_order(dataset, batch_size, model.tokenizer, column):
            batch = batch.to(model.device)
            with autocast(model.device, precision):
                nats, output = nucleotide_log_likelihood(model, batch)
            if output is not None and chunks is not None:
                chunks.add(output, batch.letters)
            bits = nats.double().cpu().numpy() / -math.log(2)
            for window, row in zip(windows, bits, strict=True):
                contig = (window.genome, window.contig)
                known = 0
                # The windows of a sequence follow one another, and the next one of its name begins anew.
                if before and contig == (before.genome, before.contig) and window.start > before.start:
                    known = max(before.start + len(before.ids) - window.start, 0)
                before = window
                yield window, row[: len(window.ids)], max(known, unpredicted)
            bar.advance(len(windows))


def _count(tally: Tally, window: Window, bits: np.ndarray, begin: int) -> None:
    """Add the letters of a window from `begin` on."""
    ambiguous = window.ambiguous[begin:]
    tally.bits += float(bits[begin:].sum())
    tally.nucleotides += int((~ambiguous).sum())
    tally.ambiguous += int(ambiguous.sum())


def _has_four_letters(manifest: Manifest) -> bool:
    return len(manifest.letter_tokenizer.alphabet) == 4


def _codes(manifest: Manifest) -> np.ndarray:
    """The code of each id of the shards, as the Markov models count them."""
    tokenizer = manifest.letter_tokenizer
    return tokenizer.nucleotide_code if _has_four_letters(manifest) else letter_codes(tokenizer.is_nucleotide)


def baseline_bits(
    shards: Path, split: str, orders: tuple[int, ...]
) -> dict[str, dict[tuple[str, str], Tally]]:
    """Bits of each contig of a split under the uniform and the Markov models, by the model's name."""
    _, manifest = read_manifest(shards)
    codes = _codes(manifest)
    splits = {file.split for file in manifest.files}
    train, valid = (
        [codes[ids] for _, ids in contig_sequences(shards, name)] if name in splits else []
        for name in ("train", "valid")
    )
    if not train:
        raise InputError(f"{shards}: the split 'train' holds nothing to train the Markov baselines on")
    if _has_four_letters(manifest):
        baselines = fit_markov_baselines(train, valid, orders)
    else:
        baselines = fit_letter_baselines(train, int(manifest.letter_tokenizer.is_nucleotide.sum()))
    return contig_bits(shards, split, baselines)


def contig_bits(
    shards: Path, split: str, models: Mapping[str, Baseline]
) -> dict[str, dict[tuple[str, str], Tally]]:
    """Bits of each contig of a split under models that read a contig as a whole, by the model's name."""
    codes = _codes(read_manifest(shards)[1])
    result: dict[str, dict[tuple[str, str], Tally]] = {name: {} for name in models}
    for window, ids in contig_sequences(shards, split):
        for name, baseline in models.items():
            tally = result[name].setdefault((window.genome, window.contig), Tally())
            bits = -baseline.log2_probability(codes[ids])
            certain = ~np.isnan(bits)
            tally.bits += float(bits[certain].sum())
            tally.nucleotides += int(certain.sum())
            tally.ambiguous += int((~certain).sum())
    return result


def _entry(tally: Tally) -> dict[str, Any]:
    return {
        "bits_per_base": tally.per_base(),
        "nucleotides": tally.nucleotides,
        "ambiguous_left_out": tally.ambiguous,
    }


def _total(tallies: dict[tuple[str, str], Tally]) -> dict[str, Any]:
    total = Tally()
    for tally in tallies.values():
        total.bits += tally.bits
        total.nucleotides += tally.nucleotides
        total.ambiguous += tally.ambiguous
    return _entry(total)
