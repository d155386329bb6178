"""Further columns for shards that are there: the same windows in new files, with something beside each letter."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genotok.atomic import atomic_path, sha256_of, sole_writer
from genotok.errors import InputError
from genotok.progress import Progress, progress
from genotok.shards.manifest import MANIFEST_NAME, Manifest, ShardFile
from genotok.shards.reader import open_batches

ColumnsOf = Callable[[pa.RecordBatch, Progress], list[pa.Array]]


def add_columns(
    folder: Path,
    manifest: Manifest,
    target: Path,
    fields: Sequence[pa.Field],
    columns_of: ColumnsOf,
    made_by: dict[str, str],
    **noted: Any,
) -> Manifest:
    """Write shards again with further columns.

    Files that an earlier call has finished of the same windows and in the same way are kept. The manifest is written
    last, so that the folder holds shards only when they are complete. Memory does not depend on their size.

    Args:
        folder: of the shards.
        manifest: theirs.
        target: the folder to write.
        fields: of the new columns.
        columns_of: gives the new columns of some windows, and advances the bar by their letters.
        made_by: what the columns depend on beside the windows.
        noted: fields of the manifest that change.

    Returns:
        The manifest that was written.

    Raises:
        InputError: the target is the source, or cannot be written.
    """
    if folder.resolve() == target.resolve():
        raise InputError(
            f"{target}: are the shards themselves; name another folder for those with more columns"
        )
    counts = dict.fromkeys((file.split for file in manifest.files), 0)
    files, bases = [], sum(file.bases for file in manifest.files)
    with sole_writer(target), progress("annotate", bases, "bases") as bar:
        (target / MANIFEST_NAME).unlink(missing_ok=True)
        for file in manifest.files:
            name = f"{file.split}-{counts[file.split]:05d}.arrow"
            counts[file.split] += 1
            metadata = {"source_sha256": file.sha256, **made_by}
            if _is_finished(target / name, metadata, file.windows):
                bar.resume_at(bar.done + file.bases)
            else:
                _write(folder / file.path, target / name, file, metadata, fields, columns_of, bar)
            files.append(replace(file, path=name, sha256=sha256_of(target / name)))
        written = replace(manifest, files=files, **noted)
        written.save(target)
    return written


def list_column(rows: list[np.ndarray], kind: pa.DataType) -> pa.Array:
    """One list a row, of values of any length."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate(rows).astype(kind.value_type.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=kind)


def _is_finished(path: Path, metadata: dict[str, str], windows: int) -> bool:
    """Whether an earlier call wrote this file of the same windows in the same way."""
    if not path.is_file():
        return False
    try:
        batches = open_batches(path, windows)
    except InputError:
        return False
    found = batches[0].schema.metadata or {} if batches else {}
    return found == {key.encode(): value.encode() for key, value in metadata.items()}


def _write(
    source: Path,
    target: Path,
    file: ShardFile,
    metadata: dict[str, str],
    fields: Sequence[pa.Field],
    columns_of: ColumnsOf,
    bar: Progress,
) -> None:
    batches = open_batches(source, file.windows)
    schema = pa.schema([*batches[0].schema, *fields], metadata=metadata)
    with atomic_path(target) as temporary, pa.ipc.new_file(temporary, schema) as sink:
        for batch in batches:
            sink.write_batch(pa.record_batch([*batch.columns, *columns_of(batch, bar)], schema=schema))
