"""`genotok tokens`: the chunks that a model cuts a stretch of a genome into, as data and as BED."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam
import torch
from torch import Tensor

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.intervals import boundary_mask, edges_by_contig
from genotok.genomes.regions import parse_region
from genotok.models import GenomicLM, ModelOutput
from genotok.models.chunkers.spans import chunk_starts
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.progress import progress
from genotok.shards.sampler import Batch, boundaries_of_tokens, collate
from genotok.tokenizers import LetterTokenizer, Tokenizer
from genotok.training.columns import cuts_by_given
from genotok.training.precision import autocast, choose_device

LONGEST_NAME = 200  # letters; genome browsers refuse names of more than 255
# A dark and a light colour for the chunks of each stage in turn (Okabe and Ito), outermost first.
STAGE_COLOURS = [
    ("0,114,178", "86,180,233"),
    ("213,94,0", "230,159,0"),
    ("0,158,115", "204,121,167"),
]


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
    context = window // 2 if context is None else context
    if not 0 <= context < window:
        raise InputError(f"context: {context} must be at least 0 and less than the window of {window} bases")
    _check_edges(model, edges)
    length = reference.contigs.get(contig, 0)
    if not 0 <= start < end <= length:
        raise InputError(
            f"{reference.path}: {contig}:{start + 1}-{end} is no region of it; {contig} has {length:,} bases"
        )
    spans = list(_spans(start, end, window, context, _letters_behind(model.tokenizer), length))
    parts = []
    with progress("tokens", end - start, "bases") as bar:
        for first in range(0, len(spans), batch_size):
            some = spans[first : first + batch_size]
            for part in _read_spans(model, reference, contig, some, precision, edges):
                parts.append(part)
                bar.advance(len(part.surprisal))
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
    boundaries: Path | None = None,
    features: Sequence[str] = (),
) -> RegionChunks:
    """`find_chunks` for files: a model's folder, a FASTA, and a region as `parse_region` reads it.

    `boundaries` and `features` are a file of intervals and what counts of it, see `genotok.genomes.intervals`.
    """
    torch.set_num_threads(threads)
    with Reference(fasta) as reference:
        contig, start, end = parse_region(region, reference.contigs)
        model = GenomicLM.from_pretrained(model_folder, choose_device(device))
        edges = None
        if boundaries is not None:
            found, _ = edges_by_contig(boundaries, reference.contigs, features)
            edges = found.get(contig, np.empty(0, np.int64))
        settings = {"window": window, "context": context, "precision": precision, "edges": edges}
        return find_chunks(model, reference, contig, start, end, **settings)


def _check_edges(model: GenomicLM, edges: np.ndarray | None) -> None:
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
    stages = [] if output is None else _stages_on_letters(output, batch.letters)
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


def _stages_on_letters(output: ModelOutput, letters: Tensor) -> list[tuple[Tensor, Tensor]]:
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


def write_bed(found: RegionChunks, path: str | Path, track: str | None = None) -> None:
    """Write the chunks of all stages as BED9, sorted by start and then stage; BGZF when the name ends in `.gz`.

    The name of a chunk is `s<stage>:<its letters>`, with `...` behind the first 200 letters of a longer one;
    its score is a thousand times the probability that a chunk of the stage begins there. The colours of the
    chunks of a stage alternate.

    Args:
        found: the chunks.
        path: the file to write.
        track: the name of the track for a genome browser; None writes no `track` line.

    Raises:
        InputError: the model has no chunking stage, or the file cannot be written.
    """
    if not found.begins:
        raise InputError(
            "the model has no chunking stage: its tokens are what its tokenizer makes, and it makes no chunks"
        )
    lines = sorted(line for stage in range(len(found.begins)) for line in _bed_lines(found, stage))
    text = "".join(line for _, _, line in lines)
    if track is not None:
        text = f'track name="{track.replace(chr(34), chr(39))}" itemRgb="On"\n{text}'
    open_file = pysam.BGZFile if Path(path).suffix == ".gz" else open
    with atomic_path(path) as temporary, open_file(str(temporary), "wb") as bed:
        bed.write(text.encode())


def _bed_lines(found: RegionChunks, stage: int) -> Iterator[tuple[int, int, str]]:
    """(start, stage, line of the BED) for each chunk of a stage."""
    colours = STAGE_COLOURS[stage % len(STAGE_COLOURS)]
    for number, (start, end) in enumerate(found.chunks(stage).tolist()):
        letters = found.letters[start - found.start : end - found.start]
        if len(letters) > LONGEST_NAME:
            letters = letters[:LONGEST_NAME] + "..."
        score = round(1000 * float(found.probability[stage][start - found.start]))
        span, name = f"{start}\t{end}", f"s{stage}:{letters}"
        line = f"{found.contig}\t{span}\t{name}\t{score}\t.\t{span}\t{colours[number % 2]}\n"
        yield start, stage, line
