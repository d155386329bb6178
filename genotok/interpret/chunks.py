"""The chunks that a model cuts stretches of a genome into, and how surprising it finds each base."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.intervals import boundary_mask, edges_by_contig
from genotok.genomes.regions import Region, merge_regions, parse_region, read_bed
from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.spans import chunk_starts
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.progress import progress
from genotok.shards.sampler import Batch, boundaries_of_tokens, collate
from genotok.tokenizers import LetterTokenizer, Tokenizer
from genotok.training.columns import cuts_by_given
from genotok.training.precision import autocast, choose_device


@dataclass
class RegionChunks:
    """The chunks of one region; coordinates are 0-based and half-open.

    Attributes:
        contig: the contig's name.
        start: first position of the region.
        end: position after its last.
        letters: the L = end - start letters, upper-cased.
        begins: for each stage, outermost first, (L,) bool: whether a chunk of the stage begins at the base.
        probability: for each stage (L,) float32: the probability that one does; 0 where the stage has no say,
            since no chunk of the stage around it begins there.
        surprisal: (L,) float64, -log2 p(base | bases before it) in bits; NaN at ambiguous letters, and at a
            contig's first base under a tokenizer without a start token.
    """

    contig: str
    start: int
    end: int
    letters: str
    begins: list[np.ndarray]
    probability: list[np.ndarray]
    surprisal: np.ndarray

    def chunks(self, stage: int) -> np.ndarray:
        """(M, 2) int64: start and end of each chunk of a stage on the contig, without gaps.

        The first chunk is cut off at the region's start and the last one at its end.
        """
        starts = np.union1d([0], np.flatnonzero(self.begins[stage]))
        return self.start + np.stack([starts, np.append(starts[1:], self.end - self.start)], 1)


def find_chunks(
    model: GenomicLM,
    reference: Reference,
    contig: str,
    start: int,
    end: int,
    *,
    window: int = 8192,
    context: int | None = None,
    batch_size: int = 8,
    precision: str = "auto",
    edges: np.ndarray | None = None,
) -> RegionChunks:
    """Run a model over a region and note where its chunks lie and how surprising each base is.

    The contig is cut into blocks of `window - context` bases, counted from its first base. Each block is read
    with the `context` bases to its left, as far as the contig has them, and what the model says on those is
    left out. So a base is seen in the same way whatever region it is asked for in, behind at least `context`
    others, and regions of any length take the same memory in the model. Where `context` reaches back to the
    contig's first base, the window makes no difference.

    Args:
        model: the model. Where a token is several letters, a chunk begins at its first token's first letter, and
            where a token shares letters with the one before, at its first new one.
        reference: the genome.
        contig: an exact name.
        start: first position, 0-based.
        end: position after the last.
        window: the most bases that the model reads at once; as a rule the window that it was trained with.
        context: of these the bases to the left of a block; half the window if None.
        batch_size: windows at once.
        precision: `auto` (bf16 on a GPU), `fp32` or `bf16`.
        edges: (M,) int64 in order, the places on the contig in front of which a chunk begins; for a model with the
            chunker `given`, and only for such.

    Raises:
        InputError: the region lies outside the contig, the context leaves no room in the window, or edges are missing
            or left over.
    """
    parts = list(
        read_chunks(
            model,
            reference,
            [Region(contig, start, end)],
            window=window,
            context=context,
            batch_size=batch_size,
            precision=precision,
            edges=None if edges is None else {contig: edges},
        )
    )
    stages = range(len(parts[0].begins))
    return RegionChunks(
        contig,
        start,
        end,
        "".join(part.letters for part in parts),
        [np.concatenate([part.begins[stage] for part in parts]) for stage in stages],
        [np.concatenate([part.probability[stage] for part in parts]) for stage in stages],
        np.concatenate([part.surprisal for part in parts]),
    )


def read_chunks(
    model: GenomicLM,
    reference: Reference,
    regions: Sequence[Region],
    *,
    window: int = 8192,
    context: int | None = None,
    batch_size: int = 8,
    precision: str = "auto",
    edges: Mapping[str, np.ndarray] | None = None,
) -> Iterator[RegionChunks]:
    """`find_chunks` for several regions, in parts of at most `window - context` bases, so that memory does not grow.

    Args:
        model: and the rest as for `find_chunks`.
        reference: the genome.
        regions: in the order of the parts; those of a contig neither overlap nor touch.
        window, context, batch_size, precision: see there.
        edges: by contig; a contig without edges is one chunk.

    Yields:
        The parts of each region in order, without gaps.

    Raises:
        InputError: see there.
    """
    context = window // 2 if context is None else context
    if not 0 <= context < window:
        raise InputError(f"context: {context} must be at least 0 and less than the window of {window} bases")
    _check_edges(model, edges)
    for contig, start, end in regions:
        length = reference.contigs.get(contig, 0)
        if not 0 <= start < end <= length:
            raise InputError(
                f"{reference.path}: {contig}:{start + 1}-{end} is no region of it; {contig} has {length:,} bases"
            )
    behind = _letters_behind(model.tokenizer)
    with progress("tokens", sum(region.end - region.start for region in regions), "bases") as bar:
        for contig, start, end in regions:
            of_contig = None if edges is None else edges.get(contig, np.empty(0, np.int64))
            spans = list(_spans(start, end, window, context, behind, reference.contigs[contig]))
            for first in range(0, len(spans), batch_size):
                some = spans[first : first + batch_size]
                for part in _read_spans(model, reference, contig, some, precision, of_contig):
                    yield part
                    bar.advance(len(part.surprisal), note=contig)


@dataclass
class Reading:
    """A model and the regions that it is to read.

    Attributes:
        model: the model.
        reference: the open genome.
        regions: merged, sorted by the contig's name and the start, as genome browsers want it.
        edges: see `read_chunks`.
    """

    model: GenomicLM
    reference: Reference
    regions: list[Region]
    edges: dict[str, np.ndarray] | None

    def parts(self, **settings: Any) -> Iterator[RegionChunks]:
        """`read_chunks` with these."""
        return read_chunks(self.model, self.reference, self.regions, edges=self.edges, **settings)


@contextmanager
def open_reading(
    model_folder: Path,
    fasta: Path,
    regions: Iterable[str] = (),
    *,
    bed: Path | None = None,
    device: str = "auto",
    threads: int = 2,
    boundaries: Path | None = None,
    features: Sequence[str] = (),
) -> Iterator[Reading]:
    """Open a model and a genome to read regions of it; the whole genome where none is named.

    Args:
        model_folder: holds config.json and model.safetensors.
        fasta: plain or BGZF.
        regions: as `parse_region` reads them.
        bed: more of them.
        device, threads: where the model runs.
        boundaries, features: a file of intervals and what counts of it, see `genotok.genomes.intervals`; for a model
            with the chunker `given`.

    Raises:
        InputError: a file or a region cannot be read.
    """
    torch.set_num_threads(threads)
    with Reference(fasta) as reference:
        wanted = [parse_region(region, reference.contigs) for region in regions]
        if bed is not None:
            wanted += read_bed(bed, reference.contigs)
            if not wanted:
                raise InputError(f"{bed}: holds no region")
        if not wanted:
            wanted = [Region(contig, 0, length) for contig, length in reference.contigs.items() if length]
        edges = None
        if boundaries is not None:
            edges, _ = edges_by_contig(boundaries, reference.contigs, features)
        model = GenomicLM.from_pretrained(model_folder, choose_device(device))
        yield Reading(model, reference, merge_regions(wanted, sorted(reference.contigs)), edges)


def chunks_of_region(
    model_folder: Path,
    fasta: Path,
    region: str,
    *,
    window: int = 8192,
    context: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 2,
) -> RegionChunks:
    """`find_chunks` for files: a model's folder, a FASTA, and a region as `parse_region` reads it."""
    with open_reading(model_folder, fasta, [region], device=device, threads=threads) as reading:
        settings = {"window": window, "context": context, "precision": precision}
        return find_chunks(reading.model, reading.reference, *reading.regions[0], **settings)


def _check_edges(model: GenomicLM, edges: Mapping[str, np.ndarray] | None) -> None:
    if not cuts_by_given(model.config):
        if edges is not None:
            raise InputError("the model finds its boundaries itself; leave out the file with boundaries")
        return
    if edges is None:
        raise InputError(
            "the model cuts by given boundaries; `genotok tokens --boundaries FILE` takes them from BED, GFF3 or GTF"
        )
    if not isinstance(model.tokenizer, LetterTokenizer):
        raise InputError(
            f"boundaries lie between letters, and the tokenizer {model.tokenizer.name!r} has tokens of several"
        )


def _letters_behind(tokenizer: Tokenizer) -> int | None:
    """How many letters behind a block its tokens depend on, as a rule; None where each letter is a token."""
    return None if isinstance(tokenizer, LetterTokenizer) else int(tokenizer.letter_counts.max())


def _spans(
    start: int, end: int, window: int, context: int, behind: int | None, length: int
) -> Iterator[tuple[int, int, int, int]]:
    """Of each window (0-based): its begin, the begin and the end of the part that counts, and its end.

    The part that counts ends the window where letters are tokens. Elsewhere the window goes on behind the block, so
    that its last letters are cut into tokens as they are in the contig.
    """
    step = window - context
    for block in range(start - start % step, end, step):
        last = min(block + step, end)
        read_to = last if behind is None else min(block + step + behind, length)
        yield max(block - context, 0), max(block, start), last, read_to


def _read_spans(
    model: GenomicLM,
    reference: Reference,
    contig: str,
    spans: list[tuple[int, int, int, int]],
    precision: str,
    edges: np.ndarray | None,
) -> Iterator[RegionChunks]:
    """What the model says on the parts that count."""
    letters = [reference.fetch(contig, begin, read_to) for begin, _, _, read_to in spans]
    tokenizer = model.tokenizer
    batch = collate([tokenizer.encode_letters(text.encode()) for text in letters], tokenizer)
    if edges is not None:
        masks = [boundary_mask(edges, begin, read_to) for begin, _, _, read_to in spans]
        rows = [torch.from_numpy(boundaries_of_tokens(mask, tokenizer)) for mask in masks]
        batch.boundary_inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    batch = batch.to(model.device)
    with autocast(model.device, precision):
        nats, output = nucleotide_log_likelihood(model, batch)
    surprisal = _surprisal(nats, batch, tokenizer.start_id is not None)
    stages = [] if output is None else stages_on_letters(output, batch.letters)
    for row, (begin, first, end, _) in enumerate(spans):
        places = slice(first - begin, end - begin)
        yield RegionChunks(
            contig,
            first,
            end,
            letters[row][first - begin : end - begin],
            [begins[row, places].cpu().numpy() for begins, _ in stages],
            [probability[row, places].cpu().numpy() for _, probability in stages],
            surprisal[row, places],
        )


def _surprisal(nats: Tensor, batch: Batch, starts_with_token: bool) -> np.ndarray:
    """(B, W) float64 bits of each letter, NaN where nothing is predicted."""
    bits = nats.double().cpu().numpy() / -math.log(2)
    counted = torch.arange(nats.shape[1], device=nats.device) < batch.letters.sum(1)[:, None]
    labels = batch.labels.flatten().repeat_interleave(batch.letters.flatten())
    counted[counted.clone()] = labels >= 0
    counted[:, 0] &= starts_with_token
    bits[~counted.cpu().numpy()] = np.nan
    return bits


def stages_on_letters(output: ModelOutput, letters: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each stage where chunks begin, (B, W) bool, and how probably, (B, W) float32, both on the letters.

    A start token and the chunk that begins with it have no letter; the chunk goes on with the letters behind it.
    """
    if not output.packed_boundaries:
        return []
    layout = output.packed_boundaries[0].ragged
    tokens, width = torch.arange(layout.total, device=letters.device), int(letters.sum(1).max())
    places = layout.to_packed((letters.cumsum(1) - letters).clamp(max=width - 1))
    sequences = layout.to_packed(
        torch.arange(len(letters), device=letters.device)[:, None].expand_as(letters)
    )
    has_letter, stages = layout.to_packed(letters) > 0, []
    for boundaries, chosen in zip(
        output.packed_boundaries, chunk_starts(output.packed_boundaries), strict=True
    ):
        begins = torch.zeros(letters.shape[0], width, dtype=torch.bool, device=letters.device)
        probability = torch.zeros(begins.shape, device=letters.device)
        shown, seen = chosen[has_letter[chosen]], has_letter[tokens]
        begins[sequences[shown], places[shown]] = True
        probability[sequences[tokens[seen]], places[tokens[seen]]] = boundaries.prob.float()[seen]
        stages.append((begins, probability))
        tokens = chosen
    return stages
