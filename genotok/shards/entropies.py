"""Entropies of a small language model in the shards, so that training need not work them out again and again.

Two columns are added to each shard: `entropies`, and `entropies_rc` of the opposite strand, read 5' to 3'. Each holds
one value in nats for every token that a model reads of the window, the start token in front included where the
tokenizer has one; so a list is one longer than `ids` then.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from genotok.errors import InputError
from genotok.progress import Progress
from genotok.shards.columns import add_columns, list_column
from genotok.shards.manifest import Manifest, read_manifest
from genotok.shards.reader import ENTROPY_COLUMNS
from genotok.tokenizers import LetterTokenizer, load_letter_tokenizer

DTYPES = {"float32": pa.float32(), "float16": pa.float16()}
LETTERS_AT_ONCE = 1 << 17

EntropiesOf = Callable[[list[np.ndarray]], list[np.ndarray]]


def annotate_shards(
    source: str | Path, target: Path, entropies_of: EntropiesOf, model_hash: str, dtype: str = "float32"
) -> Manifest:
    """Write shards again with a column of entropies for each strand; see `genotok.shards.columns.add_columns`.

    Args:
        source: the shards, as `tokenize_genomes` wrote them.
        target: the folder to write.
        entropies_of: gives for windows (L,) uint8 of ids their entropies (L,) or, behind a start token, (L + 1,).
        model_hash: of the model that gives them.
        dtype: `float32`, or `float16`, which rounds to about 0.001 nats and so moves some chunks.

    Returns:
        The manifest that was written.

    Raises:
        InputError: the source holds no shards, has entropies already or tokens of several letters, or the target is
            the source or cannot be written.
    """
    folder, manifest = read_manifest(source)
    tokenizer = load_letter_tokenizer(manifest.tokenizer)
    if dtype not in DTYPES:
        raise InputError(f"dtype: {dtype!r} is unknown; there are {', '.join(DTYPES)}")
    if manifest.entropies is not None:
        raise InputError(
            f"{source}: has the entropies of model {manifest.entropies['model'][:12]} already; "
            "give the shards that `genotok tokenize` wrote"
        )
    kind = pa.list_(DTYPES[dtype])

    def columns_of(batch: pa.RecordBatch, bar: Progress) -> list[pa.Array]:
        parts = [
            ([*found], [*reverse]) for found, reverse in _of_windows(batch, tokenizer, entropies_of, bar)
        ]
        strands = range(len(ENTROPY_COLUMNS))
        return [list_column([row for part in parts for row in part[strand]], kind) for strand in strands]

    fields = [pa.field(name, kind, nullable=False) for name in ENTROPY_COLUMNS]
    made_by = {"entropy_model": model_hash, "entropy_dtype": dtype}
    noted = {"model": model_hash, "dtype": dtype}
    return add_columns(folder, manifest, target, fields, columns_of, made_by, entropies=noted)


def _of_windows(
    batch: pa.RecordBatch, tokenizer: LetterTokenizer, entropies_of: EntropiesOf, bar: Progress
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Entropies of either strand of some windows at a time."""
    windows = [row.values.to_numpy() for row in batch.column("ids")]
    count = max(1, LETTERS_AT_ONCE // max(map(len, windows)))
    for first in range(0, len(windows), count):
        some = windows[first : first + count]
        yield entropies_of(some), entropies_of([tokenizer.reverse_complement(ids) for ids in some])
        bar.advance(sum(map(len, some)))
