"""Entropies of a small language model in the shards, so that training need not work them out again and again.

Two columns are added to each shard: `entropies`, and `entropies_rc` of the opposite strand, read 5' to 3'. Each holds
one value in nats for every token that a model reads of the window, the start token in front included where the
tokenizer has one; so a list is one longer than `ids` then.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from genotok.atomic import atomic_path, sha256_of, sole_writer
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.shards.manifest import MANIFEST_NAME, Manifest, ShardFile, read_manifest
from genotok.shards.reader import ENTROPY_COLUMNS, open_batches
from genotok.tokenizers import LetterTokenizer, load_letter_tokenizer

DTYPES = {"float32": pa.float32(), "float16": pa.float16()}
LETTERS_AT_ONCE = 1 << 17

EntropiesOf = Callable[[list[np.ndarray]], list[np.ndarray]]


def annotate_shards(
    source: str | Path, target: Path, entropies_of: EntropiesOf, model_hash: str, dtype: str = "float32"
) -> Manifest:
    """Write shards again with a column of entropies for each strand.

    Files that an earlier call has finished with the same model and the same windows are kept. The manifest is written
    last, so that the folder holds shards only when they are complete. Memory does not depend on their size.

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
    _check(source, folder, target, manifest, dtype)
    counts = dict.fromkeys((file.split for file in manifest.files), 0)
    files, bases = [], sum(file.bases for file in manifest.files)
    with sole_writer(target), progress("annotate", bases, "bases") as bar:
        (target / MANIFEST_NAME).unlink(missing_ok=True)
        for file in manifest.files:
            name = f"{file.split}-{counts[file.split]:05d}.arrow"
            counts[file.split] += 1
            metadata = {"source_sha256": file.sha256, "entropy_model": model_hash, "entropy_dtype": dtype}
            if _is_finished(target / name, metadata, file.windows):
                bar.resume_at(bar.done + file.bases)
            else:
                _annotate_file(
                    folder / file.path, target / name, file, metadata, tokenizer, entropies_of, bar
                )
            files.append(replace(file, path=name, sha256=sha256_of(target / name)))
        written = replace(manifest, files=files, entropies={"model": model_hash, "dtype": dtype})
        written.save(target)
    return written


def _check(source: str | Path, folder: Path, target: Path, manifest: Manifest, dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype: {dtype!r} is unknown; there are {', '.join(DTYPES)}")
    if folder.resolve() == target.resolve():
        raise InputError(f"{target}: are the shards themselves; name another folder for those with entropies")
    if manifest.entropies is not None:
        raise InputError(
            f"{source}: has the entropies of model {manifest.entropies['model'][:12]} already; "
            "give the shards that `genotok tokenize` wrote"
        )


def _is_finished(path: Path, metadata: dict[str, str], windows: int) -> bool:
    """Whether an earlier call wrote this file of the same windows with the same model."""
    if not path.is_file():
        return False
    try:
        batches = open_batches(path, windows)
    except InputError:
        return False
    found = batches[0].schema.metadata or {} if batches else {}
    return found == {key.encode(): value.encode() for key, value in metadata.items()}


def _annotate_file(
    source: Path,
    target: Path,
    file: ShardFile,
    metadata: dict[str, str],
    tokenizer: LetterTokenizer,
    entropies_of: EntropiesOf,
    bar: Progress,
) -> None:
    batches = open_batches(source, file.windows)
    kind = pa.list_(DTYPES[metadata["entropy_dtype"]])
    fields = [*batches[0].schema, *(pa.field(name, kind, nullable=False) for name in ENTROPY_COLUMNS)]
    schema = pa.schema(fields, metadata=metadata)
    with atomic_path(target) as temporary, pa.ipc.new_file(temporary, schema) as sink:
        for batch in batches:
            parts = [
                ([*found], [*reverse]) for found, reverse in _of_windows(batch, tokenizer, entropies_of, bar)
            ]
            columns = [
                _lists([row for part in parts for row in part[strand]], kind)
                for strand in range(len(ENTROPY_COLUMNS))
            ]
            sink.write_batch(pa.record_batch([*batch.columns, *columns], schema=schema))


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


def _lists(rows: list[np.ndarray], kind: pa.DataType) -> pa.Array:
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate(rows).astype(kind.value_type.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=kind)
