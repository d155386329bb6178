"""Small FASTA files, and what their windows must be by plain slicing."""

import numpy as np

CERTAIN = set("ACGTUacgtu")


def write(path, contigs, width=7, line_end="\n"):
    """Write {name: letters} with lines of `width` letters."""
    lines = []
    for name, letters in contigs.items():
        lines.append(f">{name} described")
        lines += [letters[i : i + width] for i in range(0, len(letters), width)]
    path.write_bytes((line_end.join(lines) + line_end).encode())
    return path


def sliced(letters, window, stride):
    """(start, letters) of each window: begin every `stride` letters until one has reached the end."""
    found = []
    for start in range(0, len(letters), stride):
        found.append((start, letters[start : start + window]))
        if start + window >= len(letters):
            break
    return found


def random_letters(length, seed=0, alphabet="ACGT"):
    return "".join(np.random.default_rng(seed).choice(list(alphabet), length))
