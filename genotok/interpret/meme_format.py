"""Motifs in the minimal MEME format (https://meme-suite.org/meme/doc/meme-format.html)."""

import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.interpret.motifs import Motif

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def write_meme(motifs: Sequence[Motif], background: np.ndarray, path: str | Path) -> None:
    """Write motifs, with their consensus as the second name.

    Args:
        motifs: may be none; the file then holds its head alone.
        background: (4,) shares of A, C, G and T.
        path: the file.
    """
    shares = " ".join(f"{letter} {share:.6f}" for letter, share in zip("ACGT", background, strict=True))
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    lines += ["Background letter frequencies", shares, ""]
    for motif in motifs:
        sites = len(motif.sites)
        lines += [
            f"MOTIF {motif.name} {motif.consensus}",
            f"letter-probability matrix: alength= 4 w= {len(motif.probabilities)} nsites= {sites} E= 0",
            *(" ".join(f"{share:.6f}" for share in column) for column in motif.probabilities),
            "",
        ]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n" * (not motifs))


def need_memelite() -> None:
    """Say what to install where memelite, which reads and compares known motifs, is missing.

    Raises:
        InputError: it is missing.
    """
    if find_spec("memelite") is None:
        raise InputError(
            "known motifs are compared by memelite, which is not installed; "
            "run pip install 'genotok[motifs]' or leave out the file of known motifs"
        )


def read_meme(path: str | Path) -> dict[str, np.ndarray]:
    """Read known motifs of DNA.

    Returns:
        The motifs' names, identifier and second name with a blank between, -> (W, 4) probabilities.

    Raises:
        InputError: memelite is missing; the file cannot be read or holds no motif of DNA, two of one name, or a
            matrix whose rows are no probabilities.
    """
    need_memelite()
    from memelite.io import read_meme as read

    try:
        lines = Path(path).read_text().splitlines()
        named = sum(line.startswith("MOTIF") for line in lines)
        motifs = {name: np.ascontiguousarray(matrix.T) for name, matrix in read(str(path)).items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, IndexError) as error:
        said = _wrong_row(lines) or f"holds a motif whose matrix cannot be read as DNA's: {error}"
        raise InputError(f"{path}: {said}") from error
    if named != len(motifs) and (said := _wrong_row(lines)):
        raise InputError(f"{path}: {said}")
    if not motifs:
        raise InputError(
            f"{path}: holds no motif in MEME format, a line MOTIF and a letter-probability matrix"
        )
    if named != len(motifs):
        raise InputError(
            f"{path}: has {named} lines MOTIF and {len(motifs)} motifs; a matrix is cut short, or two names agree"
        )
    for name, matrix in motifs.items():
        if not (np.isfinite(matrix).all() and (matrix >= 0).all() and (abs(matrix.sum(1) - 1) < 0.02).all()):
            raise InputError(f"{path}: motif {name}: a row of its matrix does not sum to 1")
    return motifs


def _wrong_row(lines: Sequence[str]) -> str:
    """Which row of which matrix is not four numbers, or missing; nothing where all are as long as they say."""
    name, left = "", 0
    for number, line in enumerate(lines, 1):
        words = line.split()
        if line.startswith(("MOTIF", "letter-probability")):
            if left:
                return f"line {number}: the matrix of motif {name} has {left} rows fewer than it says (w=)"
            if line.startswith("MOTIF"):
                name = " ".join(words[1:])
            else:
                width = re.search(r"\bw= *(\d+)", line)
                left = int(width[1]) if width else 0
        elif left and words:
            if len(words) != 4 or not all(_NUMBER.fullmatch(word) for word in words):
                return (
                    f"line {number}: {line.strip()!r} is no row of the matrix of motif {name}, four numbers"
                )
            left -= 1
    return f"ends {left} rows before the matrix of motif {name} does" if left else ""


def tomtom(queries: Sequence[np.ndarray], known: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Compare motifs as Tomtom does (Gupta et al. 2007, doi:10.1186/gb-2007-8-2-r24), on both strands.

    The comparison is memelite's, with Euclidean distance and the complete score. Where every column reaches its
    highest score it gives a p-value of 0; 4 to the power of minus the overlap, about the chance that drawn columns
    are all the likest ones, stands in its place.

    Args:
        queries: (W, 4) probabilities each; at least one.
        known: likewise; their columns are the background of the p-values.

    Returns:
        (queries, known) arrays: `p_value`; `overlap` in columns; `reverse`, whether the known motif is turned.
    """
    import numba
    from memelite import tomtom as compare

    numba.config.THREADING_LAYER = "workqueue"  # the one of OpenMP changes how many threads torch takes
    with warnings.catch_warnings():  # that few known motifs make rough p-values is said in the results
        warnings.filterwarnings("ignore", message="tomtom was given")
        found = compare([q.T for q in queries], [k.T for k in known], n_target_bins=None, n_jobs=1)
    p_value, overlap = np.asarray(found[0]), np.asarray(found[3])
    return {
        "p_value": np.where(p_value > 0, np.minimum(p_value, 1), 4.0**-overlap),
        "overlap": overlap.astype(int),
        "reverse": np.asarray(found[4]).astype(bool),
    }
