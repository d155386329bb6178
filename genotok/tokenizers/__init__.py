"""Letters to ids and back."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.genomes.alphabets import RNA
from genotok.tokenizers.base import IGNORED_LABEL, LetterTokenizer, Tokenizer
from genotok.tokenizers.biological import BiologicalTokenizer
from genotok.tokenizers.bpe import BpeTokenizer, train_bpe
from genotok.tokenizers.byte import ByteTokenizer
from genotok.tokenizers.hyenadna import HyenaDnaTokenizer
from genotok.tokenizers.kmer import BY_NAME, KmerTokenizer
from genotok.tokenizers.ntv2 import NucleotideTransformerTokenizer
from genotok.tokenizers.nucleotide import NucleotideTokenizer
from genotok.tokenizers.protein import ProteinTokenizer

# 512 tokens that `genotok bpe` learned of viruses, Haemophilus influenzae and the human mitochondrion.
BPE_512 = Path(__file__).with_name("bpe512.json")
# Those that a name fixes.
TOKENIZERS = {
    "biological": BiologicalTokenizer,
    "bpe": lambda: _read(BPE_512),
    "byte": ByteTokenizer,
    "codon": lambda: KmerTokenizer(*BY_NAME["codon"], name="codon"),
    "hyenadna": HyenaDnaTokenizer,
    "kmer": lambda: KmerTokenizer(*BY_NAME["kmer"]),
    "ntv2": NucleotideTransformerTokenizer,
    "nucleotide": NucleotideTokenizer,
    "protein": ProteinTokenizer,
    "rna": lambda: NucleotideTokenizer(RNA),
}
# Those that a JSON object describes, and its keys beside `type`.
DESCRIBED = {
    "bpe": (BpeTokenizer, {"merges"}, {"merges"}),
    "kmer": (KmerTokenizer, {"k", "stride", "alphabet"}, set()),
}


def load_tokenizer(source: str | Path | dict[str, Any]) -> Tokenizer:
    """The tokenizer that is meant.

    Args:
        source: a name (`biological`, `bpe`, `byte`, `codon`, `hyenadna`, `kmer`, `ntv2`, `nucleotide`, `protein`,
            `rna`); the path of a JSON file; or what such a file holds, an object with `type`: a name and no more,
            `{"type": "kmer", "k": 4, "stride": 2, "alphabet": "dna"}`, or
            `{"type": "bpe", "merges": ["A T", "AT C"]}`. The name `bpe` means 512 tokens of small genomes; for work
            of your own train one with `genotok bpe`.

    Raises:
        InputError: there is none of that name, or the file or the object describes none.
    """
    if isinstance(source, dict):
        try:
            return _described(json.dumps(source, sort_keys=True))
        except TypeError as error:
            raise InputError(f"tokenizer: {source!r} is not JSON: {error}") from error
    name = str(source)
    if name in TOKENIZERS:
        return _named(name)
    if name.endswith(".json") or Path(name).is_file():
        return _read(Path(name))
    raise InputError(
        f"tokenizer {name!r} is unknown; there are {', '.join(sorted(TOKENIZERS))}, and JSON files of tokenizers"
    )


def from_json(text: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` wrote.

    Raises:
        InputError: the text is no JSON, or describes no tokenizer.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"tokenizer: line {error.lineno} is not JSON: {error.msg}") from error
    if not isinstance(values, dict):
        raise InputError(f"tokenizer: should be a JSON object, not a {type(values).__name__}")
    return load_tokenizer(values)


def _read(path: Path) -> Tokenizer:
    try:
        return from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a tokenizer: {error}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


@cache
def _named(name: str) -> Tokenizer:
    return TOKENIZERS[name]()


@cache
def _described(text: str) -> Tokenizer:
    values = json.loads(text)
    kind = values.pop("type", None)
    if not isinstance(kind, str) or kind not in TOKENIZERS.keys() | DESCRIBED.keys():
        known = ", ".join(sorted(TOKENIZERS.keys() | DESCRIBED.keys()))
        raise InputError(f"tokenizer.type: {kind!r} should be one of {known}")
    make, known, needed = DESCRIBED.get(kind, (None, set(), set()))
    for key in sorted(values.keys() - known):
        raise InputError(f"tokenizer.{key}: unknown key; known are {', '.join(['type', *sorted(known)])}")
    for key in sorted(needed - values.keys()):
        raise InputError(f"tokenizer.{key}: this key is needed")
    if "merges" in values and not isinstance(values["merges"], list):
        raise InputError("tokenizer.merges: should be a list of pairs of tokens")
    return make(**values) if values else _named(kind)


def load_letter_tokenizer(source: str | dict[str, Any]) -> LetterTokenizer:
    """The tokenizer that is meant, for work that needs one id a letter.

    Raises:
        InputError: there is none of that name, or one token of it may be several letters.
    """
    tokenizer = load_tokenizer(source)
    if not isinstance(tokenizer, LetterTokenizer):
        raise InputError(
            f"tokenizer {tokenizer.name!r} has tokens of several letters, and this needs one token a letter, as "
            "nucleotide has"
        )
    return tokenizer


__all__ = [
    "IGNORED_LABEL",
    "BiologicalTokenizer",
    "BpeTokenizer",
    "ByteTokenizer",
    "HyenaDnaTokenizer",
    "KmerTokenizer",
    "LetterTokenizer",
    "NucleotideTokenizer",
    "NucleotideTransformerTokenizer",
    "ProteinTokenizer",
    "Tokenizer",
    "from_json",
    "load_letter_tokenizer",
    "load_tokenizer",
    "train_bpe",
]
