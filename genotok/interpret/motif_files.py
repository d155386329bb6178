"""What `genotok motifs` writes: motifs, the known ones that they are like, and seqlets, as files and in numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.interpret.contributions import Contributions
from genotok.interpret.meme_format import write_meme
from genotok.interpret.motif_matches import FEW_MOTIFS, Match
from genotok.interpret.motifs import Motif, background_of
from genotok.interpret.seqlets import Seqlet

EFFECTS = {1: "raises", -1: "lowers"}
_BED_COLUMNS = ["contig", "start", "end", "name", "score", "strand", "contribution", "q_value"]


@dataclass(frozen=True, eq=False)
class MotifFindings:
    """Everything that was found.

    Attributes:
        regions: the stretches.
        seqlets: on them.
        motifs: of those.
        matches: known motifs that these are like; None where there was nothing to compare with.
        known: how many known motifs there were.
    """

    regions: Sequence[Contributions]
    seqlets: Sequence[Seqlet]
    motifs: Sequence[Motif]
    matches: Sequence[Match] | None = None
    known: int = 0

    @property
    def statement(self) -> str:
        """What came out, in a sentence or two."""
        bases = sum(len(region.one_hot) for region in self.regions)
        where = (
            f"{len(self.regions):,} {'stretch' if len(self.regions) == 1 else 'stretches'} ({bases:,} bases)"
        )
        if not self.seqlets:
            return f"No seqlet stands out from the control in {where}, so there is no motif."
        within = sum(len(motif.sites) for motif in self.motifs)
        return (
            f"{len(self.seqlets):,} seqlets in {where} make {len(self.motifs):,} "
            f"{'motif' if len(self.motifs) == 1 else 'motifs'}, which hold {within:,} of them."
        )


def attribution_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files themselves, and of each folder all `attribution.npz` below it.

    Raises:
        InputError: a folder holds none, or a path is missing.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.rglob("attribution.npz")) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: holds no attribution.npz; let `genotok attribute` write into it first")
        files += found
    return files


def write_motif_files(found: MotifFindings, folder: Path) -> None:
    """Write `motifs.meme`, `motifs.tsv`, `matches.tsv` and `seqlets.bed`; the same findings give the same bytes.

    Args:
        found: what was found; each file is valid, though empty, where that is nothing.
        folder: made where it is missing.

    Raises:
        InputError: a file cannot be written.
    """
    write_meme(found.motifs, background_of(found.regions), folder / "motifs.meme")
    rows = [motif_row(found, motif) for motif in found.motifs]
    _write_table(pd.DataFrame(rows, columns=list(_MOTIF_COLUMNS)), folder / "motifs.tsv")
    matches = [vars(match) for match in found.matches or ()]
    _write_table(pd.DataFrame(matches, columns=list(Match.__dataclass_fields__)), folder / "matches.tsv")
    with atomic_path(folder / "seqlets.bed") as path:
        lines = ["#" + "\t".join(_BED_COLUMNS), *(_bed_line(row) for row in _seqlet_rows(found))]
        path.write_text("\n".join(lines) + "\n")


_MOTIF_COLUMNS = (
    *("motif", "effect", "sites", "forward", "reverse", "width", "consensus", "information_bits"),
    *("mean_contribution", "best_match", "p_value", "q_value", "match_strand", "overlap"),
)


def motif_row(found: MotifFindings, motif: Motif) -> dict[str, Any]:
    """The motif in a line of numbers; those of the known motif it is most like are None where there is none."""
    best = next((match for match in found.matches or () if match.motif == motif.name), None)
    strands = Counter(site.strand for site in motif.sites)
    numbers = (
        motif.name,
        EFFECTS[motif.sign],
        len(motif.sites),
        strands["+"],
        strands["-"],
        len(motif.counts),
    )
    content = motif.consensus, float(motif.information.sum()), float(motif.contributions.sum())
    like = (best.known, best.p_value, best.q_value, best.strand, best.overlap) if best else (None,) * 5
    return dict(zip(_MOTIF_COLUMNS, (*numbers, *content, *like), strict=True))


def summary_of(found: MotifFindings) -> dict[str, Any]:
    """The numbers for a page of results."""
    return {
        "statement": found.statement,
        "regions": len(found.regions),
        "bases": sum(len(region.one_hot) for region in found.regions),
        "seqlets": len(found.seqlets),
        "known": found.known,
        "few_known": found.matches is not None and found.known < FEW_MOTIFS,
        "motifs": [motif_row(found, motif) for motif in found.motifs],
        "matches": [vars(match) for match in found.matches or ()],
    }


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


def _seqlet_rows(found: MotifFindings) -> list[tuple[Any, ...]]:
    """Seqlets on their contigs, sorted by contig, start and end."""
    owner = {site.seqlet: (motif.name, site.strand) for motif in found.motifs for site in motif.sites}
    highest = max((seqlet.strength for seqlet in found.seqlets), default=1.0)
    rows = []
    for index, seqlet in enumerate(found.seqlets):
        region = found.regions[seqlet.region]
        name, strand = owner.get(index, ("no_motif", "."))
        place = region.contig, region.start + seqlet.start, region.start + seqlet.end
        score = round(1000 * seqlet.strength / highest)
        rows.append((*place, name, score, strand, seqlet.contribution, seqlet.q_value))
    return sorted(rows)


def _bed_line(row: tuple[Any, ...]) -> str:
    *place, contribution, q_value = row
    return "\t".join([*map(str, place), f"{contribution:.6g}", f"{q_value:.3g}"])
