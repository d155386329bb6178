"""Write docs/images/motif_logos.svg: what `genotok motifs` finds of two motifs that were planted in noise.

python docs/write_motif_picture.py
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from genotok.interpret.contributions import Contributions
from genotok.interpret.meme_format import read_meme
from genotok.interpret.motif_search import search_motifs
from genotok.report.motifs import report_motifs

REPOSITORY = Path(__file__).parents[1]
IMAGE, KNOWN = (
    REPOSITORY / "docs" / "images" / "motif_logos.svg",
    REPOSITORY / "resources" / "motifs" / "known.meme",
)
WORDS, SHARE = ("TTGACAATTA", "GCCACGTGGC"), 0.85
STRETCHES, LENGTH, SITES = 60, 300, 2


def planted(seed: int) -> list[Contributions]:
    """Stretches of drawn letters with two sites each, on either strand, whose letters contribute."""
    draw, found = np.random.default_rng(seed), []
    for number in range(STRETCHES):
        codes, values = draw.integers(0, 4, LENGTH), draw.normal(0, 0.05, LENGTH)
        for start in draw.permutation(np.arange(15, LENGTH - 40, 30))[:SITES]:
            word = np.array(["ACGT".index(letter) for letter in WORDS[draw.integers(len(WORDS))]])
            kept = draw.random(len(word)) < SHARE
            site = np.where(kept, word, (word + draw.integers(1, 4, len(word))) % 4)
            odds = np.where(kept, 0.3, -0.3)
            reverse = draw.random() < 0.5
            codes[start : start + len(word)] = 3 - site[::-1] if reverse else site
            values[start : start + len(word)] += odds[::-1] if reverse else odds
        letters = np.eye(4, dtype=np.uint8)[codes]
        found.append(Contributions(f"stretch_{number}", 0, letters, letters * values[:, None]))
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        report_motifs(search_motifs(planted(4), known=read_meme(KNOWN)), Path(folder))
        shutil.copyfile(Path(folder) / IMAGE.name, IMAGE)
