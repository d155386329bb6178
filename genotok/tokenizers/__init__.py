"""Letters to ids and back."""

from functools import cache

from genotok.errors import InputError
from genotok.tokenizers.base import IGNORED_LABEL, LetterTokenizer
from genotok.tokenizers.byte import ByteTokenizer
from genotok.tokenizers.nucleotide import NucleotideTokenizer

TOKENIZERS = {"byte": ByteTokenizer, "nucleotide": NucleotideTokenizer}


@cache
def load_tokenizer(name: str) -> LetterTokenizer:
    """The tokenizer of a name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in TOKENIZERS:
        raise InputError(f"tokenizer {name!r} is unknown; there are {', '.join(sorted(TOKENIZERS))}")
    return TOKENIZERS[name]()


__all__ = ["IGNORED_LABEL", "ByteTokenizer", "LetterTokenizer", "NucleotideTokenizer", "load_tokenizer"]
