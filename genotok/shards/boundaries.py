"""Boundaries of genes, exons or anything else that has coordinates, in the shards.

The column `boundaries` holds one bool a letter: a chunk begins with the letter, since it is the window's first, or
since an interval begins or ends in front of it. The opposite strand needs no column of its own.
"""

import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa

from genotok.atomic import sha256_of
from genotok.errors import InputError
from genotok.genomes.intervals import boundary_mask, edges_by_contig
from genotok.progress import Progress
from genotok.shards.columns import add_columns, list_column
from genotok.shards.manifest import Manifest, read_manifest
from genotok.shards.reader import BOUNDARY_COLUMN
from genotok.tokenizers import load_letter_tokenizer

NO_EDGES = np.empty(0, np.int64)


def add_boundaries(
    source: str | Path, intervals: Path, target: Path, features: Collection[str] = ()
) -> Manifest:
    """Write shards again with a column of boundaries; see `genotok.shards.columns.add_columns`.

    Args:
        source: the shards.
        intervals: BED, GFF3 or GTF, see `genotok.genomes.intervals.read_intervals`. Its contigs may be named as
            `match_contig` allows; those that the shards do not have are said once.
        target: the folder to write.
        features: of GFF3 and GTF the kinds that count; all when empty.

    Returns:
        The manifest that was written.

    Raises:
        InputError: the source holds no shards, has boundaries already or tokens of several letters; a contig that the
            file names is in several of its genomes; or the file cannot be read.
    """
    folder, manifest = read_manifest(source)
    load_letter_tokenizer(manifest.tokenizer)
    if manifest.boundaries is not None:
        raise InputError(f"{source}: has boundaries already; give the shards that `genotok tokenize` wrote")
    if not manifest.contigs:
        raise InputError(
            f"{source}: lists no contigs, as of reads, rows and proteins, so no intervals lie on them"
        )
    lengths: dict[str, int] = {}
    for contig in manifest.contigs:
        lengths[contig.name] = max(contig.length, lengths.get(contig.name, 0))
    edges, unknown = edges_by_contig(intervals, lengths, features)
    _check_one_genome(source, intervals, manifest, edges)
    if unknown:
        names = ", ".join(unknown[:5]) + " ..." * (len(unknown) > 5)
        print(f"{intervals}: {len(unknown)} of its contigs are not in {source}: {names}", file=sys.stderr)
    kind = pa.list_(pa.bool_())

    def columns_of(batch: pa.RecordBatch, bar: Progress) -> list[pa.Array]:
        masks = [
            boundary_mask(edges.get(contig, NO_EDGES), start, start + len(ids))
            for contig, start, ids in zip(
                batch.column("contig").to_pylist(),
                batch.column("start").to_pylist(),
                (row.values for row in batch.column("ids")),
                strict=True,
            )
        ]
        bar.advance(sum(map(len, masks)))
        return [list_column(masks, kind)]

    file = {"file": intervals.name, "sha256": sha256_of(intervals), "features": sorted(features)}
    made_by = {"boundaries": file["sha256"], "features": ",".join(file["features"])}
    fields = [pa.field(BOUNDARY_COLUMN, kind, nullable=False)]
    return add_columns(folder, manifest, target, fields, columns_of, made_by, boundaries=[file])


def _check_one_genome(
    source: str | Path, intervals: Path, manifest: Manifest, edges: dict[str, np.ndarray]
) -> None:
    """Refuse a file that may mean either of two genomes."""
    genome_of: dict[str, str] = {}
    for contig in manifest.contigs:
        other = genome_of.setdefault(contig.name, contig.genome)
        if other != contig.genome and contig.name in edges:
            raise InputError(
                f"{intervals}: the contig {contig.name} is in two genomes of {source}, {other} and {contig.genome}; "
                "add the boundaries to the shards of each genome, and merge these with `genotok shards merge`"
            )
