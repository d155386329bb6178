"""Contributions of bases to a model's output along stretches of sequence, in memory and as `attribution.npz`."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genotok.errors import InputError

_NEEDED = ("contig", "start", "one_hot", "contributions")


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each base of a stretch contributes to a model's output.

    Attributes:
        contig: name of the contig.
        start: of the stretch on the contig, 0-based.
        one_hot: (L, 4) of 0 and 1, columns A, C, G, T; a row of zeros where the letter is none of them.
        contributions: (L, 4) what each letter would contribute here, in the units of the output; only the values
            of the letters that are there count for motifs.

    Raises:
        InputError: the shapes do not fit, a row holds something other than one letter, or a value is not finite.
    """

    contig: str
    start: int
    one_hot: np.ndarray
    contributions: np.ndarray

    def __post_init__(self) -> None:
        place = f"contributions of {self.contig} from base {self.start + 1:,}"
        for name in ("one_hot", "contributions"):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[1] != 4 or not shape[0]:
                raise InputError(f"{place}: {name} has shape {shape}; it should be (bases, 4)")
        if self.one_hot.shape != self.contributions.shape:
            raise InputError(
                f"{place}: one_hot has {len(self.one_hot):,} rows and contributions {len(self.contributions):,}; "
                "they should have one each per base"
            )
        if not (np.isin(self.one_hot, (0, 1)).all() and (self.one_hot.sum(1) <= 1).all()):
            raise InputError(f"{place}: one_hot has a row that is neither one letter nor none")
        if not np.isfinite(self.contributions).all():
            raise InputError(f"{place}: a contribution is not a finite number; compute them anew")

    @property
    def observed(self) -> np.ndarray:
        """(L, 4) contributions of the letters that are there, zero at all others."""
        return self.contributions * self.one_hot

    @property
    def per_base(self) -> np.ndarray:
        """(L,) contribution of each base; NaN where the letter is not known."""
        return np.where(self.one_hot.any(1), self.observed.sum(1, dtype=np.float64), np.nan)


def read_contributions(paths: Sequence[str | Path], method: str | None = None) -> list[Contributions]:
    """Read files that `genotok attribute` wrote, or any `.npz` with the same arrays.

    Args:
        paths: each holds `contig`, `start` (0-based), `one_hot` and `contributions`.
        method: take `contributions_of_<method>` in place of `contributions`.

    Raises:
        InputError: a file cannot be read, lacks an array, or holds arrays that do not fit.
    """
    return [_read_file(Path(path), method) for path in paths]


def _read_file(path: Path, method: str | None) -> Contributions:
    wanted = f"contributions_of_{method}" if method else "contributions"
    names = [wanted if name == "contributions" else name for name in _NEEDED]
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
            missing = [name for name in names if name not in held]
            if missing:
                known = ", ".join(sorted(held)) or "nothing"
                raise InputError(f"{path}: lacks the array {missing[0]}; it holds {known}")
            contig, start, one_hot, values = (_array(archive, name) for name in names)
        return Contributions(str(contig), int(start), one_hot, values)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npz of `genotok attribute`: {error}") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an `.npz`; one of Python objects is refused, so that nothing is unpickled."""
    with archive.open(f"{name}.npy") as handle:
        return np.lib.format.read_array(handle, allow_pickle=False)
