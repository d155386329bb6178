"""The letters of a vocabulary as a tree, and how probable each letter of a token is given those in front of it."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from genotok.tokenizers import Tokenizer

_BLOCK = 1 << 24  # values held at once


class TokenTree:
    """Splits the log-likelihood of tokens over their letters by the chain rule.

    The probability of a prefix is the sum over the tokens that begin with it, and that of letter j is the probability
    of the first j letters over that of the first j - 1 (1 in front of the first letter). The last letter's is of the
    token itself, so that it holds the probability that the token ends there and is not a longer one. The letters'
    log-likelihoods hence sum to the token's, and what special tokens have counts against a token's first letter.

    A prefix that all its tokens continue in one way needs no sum. The others are nodes, numbered from the longest
    on; a sum has the tokens and the nodes that are one letter, or one such way, further on as its terms. All lie in
    one row of columns: the vocabulary, the nodes, and a last column of probability 0.

    Where k-mers overlap, single letters are no prefix of any: the tree is then one of k-mers alone.

    Args:
        tokenizer: the vocabulary; tokens that are not certain letters alone are left out.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.vocab_size = tokenizer.vocab_size
        ids = np.flatnonzero(tokenizer.is_nucleotide)
        lengths = tokenizer.letter_counts[ids]
        longest = int(lengths.max())
        letters = np.zeros((len(ids), longest), np.uint8)
        joined = "".join(tokenizer.token_letters[i] for i in ids).encode("latin-1")
        letters[np.arange(longest) < lengths[:, None]] = np.frombuffer(joined, np.uint8)
        inside = lengths > 1 if tokenizer.overlap else np.ones(len(ids), bool)
        columns, levels = _grow(letters[inside], lengths[inside], ids[inside], self.vocab_size)
        path = np.repeat(ids[:, None], longest, 1)
        path[inside] = columns
        self.nodes = sum(len(level) for level in levels)
        self.levels = [
            torch.from_numpy(np.where(level < 0, self.vocab_size + self.nodes, level)) for level in levels
        ]
        whole = np.zeros((self.vocab_size, longest), np.int64)
        whole[ids] = path
        self.path = torch.from_numpy(whole)
        self.lengths = torch.from_numpy(tokenizer.letter_counts)

    def to(self, device: torch.device) -> "TokenTree":
        """The tree on a device; moves it."""
        if self.path.device != device:
            self.path, self.lengths = self.path.to(device), self.lengths.to(device)
            self.levels = [level.to(device) for level in self.levels]
        return self

    def letter_log_likelihood(self, log_probability: Tensor, ids: Tensor, added: Tensor) -> Tensor:
        """Log-likelihood of the letters of tokens.

        Args:
            log_probability: (N, V) float32, of every token of the vocabulary; V may be larger than it.
            ids: (N,) the tokens, of certain letters alone.
            added: (N,) how many of each token's last letters are new; those in front are known, and are conditioned
                on.

        Returns:
            (N, longest token) float32: of the first new letter, the second, ...; 0 behind the last.
        """
        tree = self.to(ids.device)
        rows = max(1, _BLOCK // (self.vocab_size + self.nodes + 1))
        parts = zip(log_probability.split(rows), ids.split(rows), added.split(rows), strict=True)
        return torch.cat([tree._of_block(*part) for part in parts])

    def _of_block(self, log_probability: Tensor, ids: Tensor, added: Tensor) -> Tensor:
        values = self._sums(log_probability[:, : self.vocab_size])
        prefixes = pad(values.gather(1, self.path[ids]), (1, 0))
        longest = self.path.shape[1]
        known = (self.lengths[ids] - added)[:, None] + torch.arange(longest, device=ids.device)
        behind = prefixes.gather(1, (known + 1).clamp(max=longest))
        return behind - prefixes.gather(1, known.clamp(max=longest))

    def _sums(self, log_probability: Tensor) -> Tensor:
        """(N, V + nodes + 1): log-probabilities of tokens and nodes."""
        values = log_probability.new_full(
            (len(log_probability), self.vocab_size + self.nodes + 1), -torch.inf
        )
        values[:, : self.vocab_size] = log_probability
        first = self.vocab_size
        for terms in self.levels:
            values[:, first : first + len(terms)] = values[:, terms].logsumexp(-1)
            first += len(terms)
        return values


def _grow(
    letters: np.ndarray, lengths: np.ndarray, ids: np.ndarray, vocab_size: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The nodes of a tree.

    Args:
        letters: (tokens, longest) uint8, 0 behind the end.
        lengths: (tokens,).
        ids: (tokens,), their columns.
        vocab_size: the first node's column.

    Returns:
        (tokens, longest) int64, the column of each prefix by its length, of a token that ends the token itself; and
        for each length with nodes, the longest first, (nodes, most terms) int64 columns of each sum's terms, -1
        where there are fewer.
    """
    longest = letters.shape[1]
    path, column = np.repeat(ids[:, None], longest, 1), ids.copy()
    levels, first = [], vocab_size
    for length in range(longest, 0, -1):
        members = np.flatnonzero(lengths >= length)
        prefixes = np.ascontiguousarray(letters[members, :length]).view(f"V{length}")[:, 0]
        _, groups = np.unique(prefixes, return_inverse=True)
        # A token's column is still its own where it ends here, and else that of its prefix that is one longer.
        terms = np.unique(np.stack([groups, column[members]], 1), axis=0)
        counts = np.bincount(terms[:, 0])
        begins, several = np.cumsum(counts) - counts, counts > 1
        of_group = terms[begins, 1]
        of_group[several] = first + np.arange(several.sum())
        if several.any():
            levels.append(_padded(terms[:, 1], begins[several], counts[several]))
            first += len(levels[-1])
        column[members] = of_group[groups]
        longer = members[lengths[members] > length]
        path[longer, length - 1] = column[longer]
    return path, levels


def _padded(values: np.ndarray, begins: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(rows, most) of stretches of values, -1 behind the end of each."""
    steps = np.arange(counts.max())
    places = np.minimum(begins[:, None] + steps, len(values) - 1)
    return np.where(steps < counts[:, None], values[places], -1)


@lru_cache(maxsize=8)
def token_tree(tokenizer: Tokenizer) -> TokenTree:
    """The tree of a tokenizer, made once."""
    return TokenTree(tokenizer)
