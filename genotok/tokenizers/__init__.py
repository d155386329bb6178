"""Letters to ids and back."""

from functools import cache

from genotok.errors import InputError
from genotok.tokenizers.base import IGNORED_LABEL, LetterTokenizer, Tokenizer
from genotok.tokenizers.byte import ByteTokenizer
from genotok.tokenizers.hyenadna import HyenaDnaTokenizer
from genotok.tokenizers.ntv2 import NucleotideTransformerTokenizer
from genotok.tokenizers.nucleotide import NucleotideTokenizer

TOKENIZERS = {
    "byte": ByteTokenizer,
    "hyenadna": HyenaDnaTokenizer,
    "ntv2": NucleotideTransformerTokenizer,
    "nucleotide": NucleotideTokenizer,
}


@cache
def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in TOKENIZERS:
        raise InputError(f"tokenizer {name!r} is unknown; there are {', '.join(sorted(TOKENIZERS))}")
    return TOKENIZERS[name]()


def load_letter_tokenizer(name: str) -> LetterTokenizer:
    """The tokenizer of a name, for work that needs one id a letter.

    Raises:
        InputError: there is none of that name, or one token of it may be several letters.
    """
    tokenizer = load_tokenizer(name)
    if not isinstance(tokenizer, LetterTokenizer):
        raise InputError(
            f"tokenizer {name!r} has tokens of several letters, and this needs one token a letter, as nucleotide has"
        )
    return tokenizer


__all__ = [
    "IGNORED_LABEL",
    "ByteTokenizer",
    "HyenaDnaTokenizer",
    "LetterTokenizer",
    "NucleotideTokenizer",
    "NucleotideTransformerTokenizer",
    "Tokenizer",
    "load_letter_tokenizer",
    "load_tokenizer",
]
