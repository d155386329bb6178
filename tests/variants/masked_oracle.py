"""The definition of a substitution's score by a model of masked tokens, slowly: letter by letter, in float64."""

import torch
from haplotype_oracle import edited, leftmost_difference, reverse_complement


def tokens_of(model, sequence: str) -> list[str]:
    """The letters of each token."""
    tokenizer = model.tokenizer
    return [tokenizer.token_letters[i] for i in tokenizer.encode_letters(sequence.encode()).tolist()]


def letter_probability(p: torch.Tensor, model, length: int, known: dict[int, str], place: int, letter: str):
    """p(letter at a place of a token | letters known at other places), by the tokens of that length."""
    wanted = given = 0.0
    for i, letters in enumerate(model.tokenizer.token_letters):
        if len(letters) != length or set(letters) - set("ACGT"):
            continue
        if all(letters[at] == known[at] for at in known):
            given += p[i].item()
            wanted += p[i].item() if letters[place] == letter else 0.0
    return wanted / given


def site_ratio(model, contig: str, haplotype: str, window: int) -> float:
    """The forward strand's ratio of a contig in which letters are substituted."""
    start, _, _ = leftmost_difference(contig, haplotype)
    left = max(0, start - window // 2)
    ref, alt = contig[left : left + window], haplotype[left : left + window]
    words = list(zip(tokens_of(model, ref), tokens_of(model, alt), strict=True))
    tokenizer = model.tokenizer
    ids = tokenizer.encode_letters(ref.encode()).tolist()
    hidden = [tokenizer.mask_id if a != b else i for i, (a, b) in zip(ids, words, strict=True)]
    in_front = [] if tokenizer.start_id is None else [tokenizer.start_id]
    with torch.no_grad():
        logits = model(torch.tensor([in_front + hidden]), task="mlm").logits[0, len(in_front) :].double()
    total = 0.0
    for row, (a, b) in zip(logits.softmax(-1), words, strict=True):
        changed = [i for i in range(len(a)) if a[i] != b[i]]
        for word, sign in ((b, 1), (a, -1)):
            known = {i: a[i] for i in range(len(a)) if i not in changed}
            for place in changed:
                p = letter_probability(row, model, len(a), known, place, word[place])
                total += sign * torch.tensor(p, dtype=torch.float64).log().item()
                known[place] = word[place]
    return total


def site_ratios(model, contig: str, pos: int, ref: str, alt: str, window: int) -> tuple[float, float]:
    """The ratios of a substitution on the forward and on the reverse strand."""
    haplotype = edited(contig, pos, ref, alt)
    reverse = reverse_complement(contig), reverse_complement(haplotype)
    return site_ratio(model, contig, haplotype, window), site_ratio(model, *reverse, window)
