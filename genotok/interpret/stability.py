"""How much the chunks around a base change with one substitution, and with where the reading begins.

A tokenizer whose chunks all change behind one variant reads two alleles in two languages. Here each site is read as
it is, with another letter, and from one base later on; boundaries are compared base by base, by their distance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
from genotok.interpret.chunks import stages_on_letters
from genotok.models import GenomicLM
from genotok.models.likelihood import nucleotide_log_likelihood
from genotok.progress import progress
from genotok.shards.sampler import collate
from genotok.tokenizers import LetterTokenizer, Tokenizer
from genotok.training.columns import cuts_by_given
from genotok.training.precision import autocast

SITES = 256
WINDOW = 512  # letters that are read around a site
_BASES = "ACGT"


@dataclass
class Stability:
    """What `SITES` sites say of one stage.

    Attributes:
        stage: of the chunks.
        sites: how many were read.
        boundaries: boundaries in all windows as they are.
        substitution: (WINDOW / 2,) by the distance behind the substituted base, 0 for the base itself: the share of
            sites where a boundary comes or goes there.
        substitution_all: boundaries that come or go at any distance, a site.
        shift: (WINDOW - 1,) by the distance from the first base that both readings have: the share of sites where a
            boundary is in one reading alone.
        recovered: bases behind the later beginning after which both readings agree to the end of the window, the
            median of the sites.
    """

    stage: int
    sites: int
    boundaries: int
    substitution: np.ndarray
    substitution_all: float
    shift: np.ndarray
    recovered: float


def chunk_stability(
    model: GenomicLM,
    reference: Reference,
    regions: Sequence[Region],
    *,
    sites: int = SITES,
    seed: int = 1,
    batch_size: int = 32,
    precision: str = "auto",
) -> list[Stability]:
    """Read random sites of some regions in three ways.

    Args:
        model: the model; its chunker finds its boundaries itself.
        reference: the genome.
        regions: from which windows of 512 letters without ambiguous ones are drawn; where there are fewer than
            `sites` of them after ten draws each, as many as there are.
        sites: how many.
        seed: of the places and of the letters that come instead.
        batch_size: windows at once.
        precision: `auto` (bf16 on a GPU), `fp32` or `bf16`.

    Returns:
        One for each chunking stage, outermost first.

    Raises:
        InputError: no region is as long as a window, all are full of ambiguous letters, or the model takes its
            boundaries from a file.
    """
    if cuts_by_given(model.config):
        raise InputError("the model takes its boundaries from a file, and so they change with no letter")
    random = np.random.default_rng([seed, 7])
    windows = _draw_windows(reference, regions, sites, random)
    return _read_in_three_ways(
        windows, lambda texts: _boundaries(model, texts, precision), random, batch_size
    )


def stability_in_windows(
    model: GenomicLM, windows: Sequence[str], *, seed: int = 1, batch_size: int = 32, precision: str = "auto"
) -> list[Stability]:
    """The same in given windows of 512 letters A, C, G and T each.

    A model whose tokens hold several letters has boundaries without a chunker, too: those of its tokens, which come
    first, as the stage -1.
    """
    tokenizer, random = model.tokenizer, np.random.default_rng([seed, 7])
    of_tokens = not isinstance(tokenizer, LetterTokenizer)

    def boundaries(texts: list[str]) -> list[np.ndarray]:
        found = _boundaries(model, texts, precision) if model.config.chunkers else []
        return [_token_starts(tokenizer, texts), *found] if of_tokens else found

    return _read_in_three_ways(
        list(windows), boundaries, random, batch_size, first_stage=-1 if of_tokens else 0
    )


def _read_in_three_ways(
    windows: list[str],
    boundaries: Callable[[list[str]], list[np.ndarray]],
    random: np.random.Generator,
    batch_size: int,
    first_stage: int = 0,
) -> list[Stability]:
    """Windows as they are, with another letter in the middle, and from the second letter on."""
    middle, readings = WINDOW // 2, []
    with progress("stability", len(windows), "sites") as bar:
        for first in range(0, len(windows), batch_size):
            some = windows[first : first + batch_size]
            changed = []
            for window in some:
                others = _BASES.replace(window[middle], "")
                changed.append(window[:middle] + others[random.integers(3)] + window[middle + 1 :])
            readings.append([boundaries(texts) for texts in (some, changed, [text[1:] for text in some])])
            bar.advance(len(some))
    stages = len(readings[0][0])
    return [_compare(place, first_stage + place, readings) for place in range(stages)]


def _token_starts(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """(B, L) bool: at which letters a token begins."""
    found = np.zeros((len(texts), len(texts[0])), bool)
    for row, text in enumerate(texts):
        added = tokenizer.letters_added(tokenizer.encode_letters(text.encode()))
        found[row, np.cumsum(added) - added] = True
    return found


def _draw_windows(
    reference: Reference, regions: Sequence[Region], sites: int, random: np.random.Generator
) -> list[str]:
    rooms = np.array([max(0, end - start - WINDOW + 1) for _, start, end in regions])
    if rooms.sum() == 0:
        raise InputError(f"{reference.path}: no region is as long as a window of {WINDOW} letters")
    windows: list[str] = []
    for _ in range(10 * sites):
        place = int(random.integers(rooms.sum()))
        number = int(np.searchsorted(np.cumsum(rooms), place, side="right"))
        contig, start, _ = regions[number]
        begin = start + place - int(rooms[:number].sum())
        letters = reference.fetch(contig, begin, begin + WINDOW)
        if not letters.strip(_BASES):
            windows.append(letters)
        if len(windows) == sites:
            break
    if not windows:
        raise InputError(f"{reference.path}: its regions are full of ambiguous letters")
    return windows


@torch.no_grad()
def _boundaries(model: GenomicLM, texts: list[str], precision: str) -> list[np.ndarray]:
    """Of each stage (B, L) bool: at which letters a chunk begins."""
    tokenizer = model.tokenizer
    batch = collate([tokenizer.encode_letters(text.encode()) for text in texts], tokenizer).to(model.device)
    with autocast(model.device, precision):
        _, output = nucleotide_log_likelihood(model, batch)
    return [begins.cpu().numpy() for begins, _ in stages_on_letters(output, batch.letters)]


def _compare(place: int, stage: int, readings: list[list[list[np.ndarray]]]) -> Stability:
    plain, changed, shifted = (np.concatenate([part[way][place] for part in readings]) for way in range(3))
    differs = plain != changed
    # The first letter of a reading begins a chunk whatever it is.
    moved = plain[:, 2:] != shifted[:, 1:]
    last = np.where(moved.any(1), moved.shape[1] - np.argmax(moved[:, ::-1], 1), 0)
    return Stability(
        stage,
        len(plain),
        int(plain.sum()),
        differs[:, WINDOW // 2 :].mean(0),
        float(differs.sum(1).mean()),
        moved.mean(0),
        float(np.median(last)),
    )
