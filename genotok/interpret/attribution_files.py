"""Attributions as files: `attribution.npz` and `.tsv` of a region, bigWig tracks of all regions."""

import re
from collections.abc import Container, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from genotok.genomes.bigwig import open_bigwig
from genotok.genomes.regions import Region
from genotok.interpret.attribution import Attribution


def region_name(region: Region, taken: Container[str] = ()) -> str:
    """A file name for a region, as `chr1_1001-1100` (1-based, closed); unusual letters become `_`."""
    contig = re.sub(r"[^A-Za-z0-9._-]", "_", region.contig).lstrip(".")
    name = f"{contig}_{region.start + 1}-{region.end}"
    while name in taken:
        name += "_"
    return name


def write_arrays(found: Attribution, path: Path) -> None:
    """Write the `.npz` of a region, the same bytes every time; none of its arrays needs pickle.

    It holds `contig`, `start` and `end` (0-based, half-open), `one_hot` (L, 4), `target`, `methods`,
    `contributions_of_<method>` (L, 4) for each, `contributions`, those of the first, and with mutagenesis
    `mutagenesis_delta` (L, 4). Columns are A, C, G and T. `contributions` are hypothetical: what each letter would
    contribute; `(contributions * one_hot).sum(1)` is what the letters do contribute.
    """
    arrays = {
        "contig": np.array(found.region.contig),
        "start": np.array(found.region.start),
        "end": np.array(found.region.end),
        "one_hot": found.one_hot,
        "target": np.array(found.target),
        "methods": np.array(list(found.contributions)),
        "contributions": next(iter(found.contributions.values())),
    }
    arrays |= {f"contributions_of_{method}": values for method, values in found.contributions.items()}
    if found.changes is not None:
        arrays["mutagenesis_delta"] = found.changes
    np.savez_compressed(path, **arrays)


def write_attention(found: Attribution, path: Path) -> None:
    """Write the attention maps of a region as `.npz`, the same bytes every time.

    It holds `layers`, and of each layer `<layer>.weights` (heads, Q, K), and `<layer>.queries` (Q, 2) and
    `<layer>.keys` (K, 2), start and end of each row on the contig (0-based, half-open).
    """
    arrays = {"layers": np.array([one.layer for one in found.attention])}
    for one in found.attention:
        arrays |= {
            f"{one.layer}.weights": one.weights,
            f"{one.layer}.queries": one.queries,
            f"{one.layer}.keys": one.keys,
        }
    np.savez_compressed(path, **arrays)


def attribution_table(found: Attribution) -> pd.DataFrame:
    """One row a base: `contig`, `position` (1-based), `ref`, and the contribution by each method; empty where the
    letter is not A, C, G or T."""
    columns = {
        "contig": found.region.contig,
        "position": np.arange(found.region.start, found.region.end) + 1,
        "ref": list(found.letters),
    }
    return pd.DataFrame(columns | {method: found.per_base(method) for method in found.contributions})


def changes_table(found: Attribution) -> pd.DataFrame:
    """One row a base: `contig`, `position` (1-based), `ref`, and in `A`, `C`, `G` and `T` what the target changes by
    with that letter; empty at the letter that stands there."""
    table = attribution_table(found)[["contig", "position", "ref"]]
    known = found.one_hot.any(1, keepdims=True) & (found.one_hot == 0)
    changes = np.where(known, found.changes, np.nan)
    return table.assign(**dict(zip("ACGT", changes.T, strict=True)))


class Tracks:
    """One bigWig file a method, of regions in the order of the contigs; use as a context.

    Args:
        folder: where `<method>.bw` go.
        contigs: name -> length in bases.
        methods: that give contributions.
    """

    def __init__(self, folder: Path, contigs: Mapping[str, int], methods: list[str]):
        self._stack = ExitStack()
        lengths = list(contigs.items())
        self._files = {
            method: self._stack.enter_context(open_bigwig(folder / f"{method}.bw", lengths))
            for method in methods
        }

    def add(self, found: Attribution) -> None:
        """Add a region, which lies behind the one before."""
        starts = np.arange(found.region.start, found.region.end)
        for method, track in self._files.items():
            track.add(found.region.contig, starts, found.per_base(method))

    def __enter__(self) -> "Tracks":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)
