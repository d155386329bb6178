"""The definition of a variant's score, slowly: both sequences of the whole contig, one window at a time."""

import torch

from genotok.genomes.alphabets import LETTER_COMPLEMENT


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
    """ln p of the tokens of A, C, G and T alone of a sequence, one by one, summed in float64.

    A model of masked tokens is run once for each of them, with it masked.
    """
    tokenizer, start = model.tokenizer, model.tokenizer.start_id
    ids = [*([] if start is None else [start]), *tokenizer.encode_letters(sequence.encode()).tolist()]
    masked, total = model.config.tasks[0] == "mlm", 0.0
    with torch.no_grad():
        log_p = None if masked else model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for i in range(1, len(ids)):
            letters = tokenizer.token_letters[ids[i]]
            if not letters or set(letters) - set("ACGT"):
                continue
            if masked:
                hidden = torch.tensor([[*ids[:i], tokenizer.mask_id, *ids[i + 1 :]]])
                total += model(hidden).logits[0, i].double().log_softmax(-1)[ids[i]].item()
            else:
                total += log_p[i - 1, ids[i]].item()
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
