"""The definition of a variant's score, slowly: both sequences of the whole contig, one window at a time."""

import torch

from genotok.tokenizers.base import LETTER_COMPLEMENT


def reverse_complement(sequence: str) -> str:
    return sequence.translate({i: chr(letter) for i, letter in enumerate(LETTER_COMPLEMENT)})[::-1]


def edited(contig: str, pos: int, ref: str, alt: str) -> str:
    """The contig with ALT at the 1-based position instead of REF."""
    assert contig[pos - 1 : pos - 1 + len(ref)] == ref
    return contig[: pos - 1] + alt + contig[pos - 1 + len(ref) :]


def leftmost_difference(a: str, b: str) -> tuple[int, str, str]:
    """Where two sequences differ once their longest common end, then their longest common start is off."""
    end = 0
    while end < min(len(a), len(b)) and a[-1 - end] == b[-1 - end]:
        end += 1
    a, b = a[: len(a) - end], b[: len(b) - end]
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    return start, a[start:], b[start:]


def log_likelihood(model, sequence: str) -> float:
    """ln p of the A, C, G and T of a sequence, letter by letter, summed in float64."""
    tokenizer = model.tokenizer
    ids = [] if tokenizer.start_id is None else [tokenizer.start_id]
    ids += tokenizer.encode(sequence)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    total, shift = 0.0, len(ids) - len(sequence)
    for i, letter in enumerate(sequence):
        if letter in "ACGT" and i + shift > 0:
            total += logits[i + shift - 1].log_softmax(-1)[ids[i + shift]].item()
    return total


def ratio(model, contig: str, haplotype: str, window: int) -> float:
    """The forward strand's log-likelihood ratio of an edited contig."""
    start, _, _ = leftmost_difference(contig, haplotype)
    left = max(0, start - window // 2)
    return log_likelihood(model, haplotype[left : left + window]) - log_likelihood(
        model, contig[left : left + window]
    )


def ratios(model, contig: str, pos: int, ref: str, alt: str, window: int) -> tuple[float, float]:
    """The ratios of an allele on the forward and on the reverse strand."""
    haplotype = edited(contig, pos, ref, alt)
    reverse = reverse_complement(contig), reverse_complement(haplotype)
    return ratio(model, contig, haplotype, window), ratio(model, *reverse, window)
