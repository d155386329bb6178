"""`genotok tokens`: chunks as BED or bigBed, boundary probability and surprisal as bigWig, or all of it as a hub."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pybigtools
import pysam

from genotok.atomic import atomic_directory, atomic_path
from genotok.errors import InputError
from genotok.genomes.bigwig import BigWig, open_bigwig
from genotok.genomes.fasta import read_fasta
from genotok.genomes.twobit import write_twobit
from genotok.interpret.chunk_rows import ChunkRow, ChunkRows
from genotok.interpret.chunks import RegionChunks

Sink = Callable[[RegionChunks], None]
# Without it the file says of itself that it is BED3, and genome browsers show neither names nor colours.
COLUMNS = """table chunks
"Chunks that a model has learned"
(
    string chrom;       "Contig"
    uint   chromStart;  "Start, from 0"
    uint   chromEnd;    "End"
    string name;        "Stage and letters"
    uint   score;       "A thousand times the probability of the boundary"
    char[1] strand;     "None"
    uint   thickStart;  "As chromStart"
    uint   thickEnd;    "As chromEnd"
    uint   itemRgb;     "Colour, in which chunks take turns"
)
"""


def write_token_files(
    parts: Iterable[RegionChunks],
    contigs: Mapping[str, int],
    stages: int,
    *,
    bed: str | Path | None = None,
    track: str | None = None,
    bigwig: str | Path | None = None,
) -> None:
    """Write what a model says on a genome while it is read, whole files or none.

    Args:
        parts: of `read_chunks`, on contigs in the order of their names.
        contigs: name -> length in bases.
        stages: chunking stages of the model.
        bed: `.bed`, `.bed.gz` (BGZF) or `.bb` (bigBed) of the chunks of all stages, see `ChunkRow.bed_line`, sorted
            by contig, start and then stage.
        track: name of the track for a genome browser; None writes no `track` line. For BED only.
        bigwig: the path that the names of bigWig files begin with: `<bigwig>.surprisal.bw` in bits a base, and of
            each stage `<bigwig>.boundary.stage<s>.bw`, the probability that a chunk begins at the base. Bases of
            which the model says nothing have no value.

    Raises:
        InputError: chunks are asked for and the model has no chunking stage, or a file cannot be written.
    """
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if bed is not None:
            _need_stages(stages)
            sinks.append(stack.enter_context(_chunk_file(Path(bed), contigs, track)))
        if bigwig is not None:
            sinks += [
                stack.enter_context(_track_file(Path(f"{bigwig}.{name}.bw"), contigs, values))
                for name, values in _tracks(stages).items()
            ]
        for part in parts:
            for sink in sinks:
                sink(part)


def write_trackhub(
    parts: Iterable[RegionChunks],
    contigs: Mapping[str, int],
    stages: int,
    folder: Path,
    *,
    name: str,
    fasta: Path,
    assembly: str | None = None,
) -> None:
    """Write a folder that the UCSC browser (My Data, Track Hubs) and IGV open by its `hub.txt`.

    Args:
        parts, contigs, stages: see `write_token_files`.
        folder: the folder to make.
        name: the model's, for people.
        fasta: the genome; goes into the hub as `genome.2bit` where no assembly is named.
        assembly: UCSC's name of the genome (`hg38`), whose contigs must be called as there.

    Raises:
        InputError: a file cannot be written.
    """
    with atomic_directory(folder) as hub:
        with ExitStack() as stack:
            sinks = [
                stack.enter_context(_chunk_file(hub / f"chunks.stage{stage}.bb", contigs, None, stage))
                for stage in range(stages)
            ]
            sinks += [
                stack.enter_context(_track_file(hub / f"{track}.bw", contigs, values))
                for track, values in _tracks(stages).items()
            ]
            first: RegionChunks | None = None
            for part in parts:
                first = first or part
                for sink in sinks:
                    sink(part)
        if assembly is None:
            write_twobit(read_fasta(fasta), hub / "genome.2bit")
        shown = f"{first.contig}:{first.start + 1}-{min(first.start + 600, first.end)}"
        (hub / "hub.txt").write_text(_hub_text(name, stages, fasta, assembly, shown))


def _need_stages(stages: int) -> None:
    if not stages:
        raise InputError(
            "the model has no chunking stage: its tokens are what its tokenizer makes, and it makes no chunks"
        )


def _tracks(stages: int) -> dict[str, Callable[[RegionChunks], np.ndarray]]:
    """The bigWig tracks of a model, by name: (L,) values of a part, NaN where there is none."""

    def of_stage(stage: int) -> Callable[[RegionChunks], np.ndarray]:
        return lambda part: part.probability[stage].astype(np.float64)

    return {"surprisal": lambda part: part.surprisal} | {
        f"boundary.stage{stage}": of_stage(stage) for stage in range(stages)
    }


@contextmanager
def _track_file(
    path: Path, contigs: Mapping[str, int], values: Callable[[RegionChunks], np.ndarray]
) -> Iterator[Sink]:
    with atomic_path(path) as temporary, open_bigwig(temporary, sorted(contigs.items())) as track:
        yield lambda part: _add_values(track, part, values(part))


def _add_values(track: BigWig, part: RegionChunks, values: np.ndarray) -> None:
    track.add(part.contig, np.arange(part.start, part.end), values)


@contextmanager
def _chunk_file(
    path: Path, contigs: Mapping[str, int], track: str | None, stage: int | None = None
) -> Iterator[Sink]:
    """Write the chunks of all stages, or of one, in the format that the file's name tells."""
    big = path.suffix == ".bb"
    open_file = pysam.BGZFile if path.suffix == ".gz" else open
    rows, written = ChunkRows(), 0
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path))
        text = stack.enter_context(_removed(temporary.with_suffix(".bed"))) if big else temporary
        with open_file(str(text), "wb") as bed:
            if track is not None and not big:
                bed.write(f'track name="{track.replace(chr(34), chr(39))}" itemRgb="On"\n'.encode())

            def write(ready: list[ChunkRow]) -> None:
                nonlocal written
                kept = [row.bed_line() for row in ready if stage is None or row.stage == stage]
                bed.write("".join(kept).encode())
                written += len(kept)

            yield lambda part: write(rows.add(part))
            write(rows.close())
        if big:
            _write_bigbed(text, temporary, contigs, written)


@contextmanager
def _removed(path: Path) -> Iterator[Path]:
    """A path whose file is gone when the block ends."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write_bigbed(bed: Path, path: Path, contigs: Mapping[str, int], count: int) -> None:
    """Write a sorted BED file of nine columns as bigBed."""
    with open(bed) as lines:
        columns = (line.rstrip("\n").split("\t", 3) for line in lines)
        entries = ((contig, int(start), int(end), rest) for contig, start, end, rest in columns)
        pybigtools.open(str(path), "w").write(dict(sorted(contigs.items())), entries, autosql=COLUMNS)
    with pybigtools.open(str(path)) as file:  # the library does not say when the disk is full
        found = sum(1 for contig in file.chroms() for _ in file.records(contig))
    if found != count:
        raise InputError(f"{path.parent}: a bigBed file cannot be written; is the disk full?")


def _hub_text(name: str, stages: int, fasta: Path, assembly: str | None, shown: str) -> str:
    """The settings of the hub in one file (https://genome.ucsc.edu/goldenPath/help/hgTracksHelp.html#UseOneFile)."""
    label = name[:17]
    hub = {
        "hub": "genotok",
        "shortLabel": label,
        "longLabel": f"Tokens that {name} has learned",
        "useOneFile": "on",
        "email": "nobody@localhost",
    }
    genome = {"genome": assembly or "genome"}
    if assembly is None:
        genome |= {
            "twoBitPath": "genome.2bit",
            "organism": fasta.name.split(".")[0],
            "description": fasta.name,
            "defaultPos": shown,
        }
    tracks = [
        _hub_track(f"chunks_stage{stage}", f"chunks.stage{stage}.bb", f"Chunks, stage {stage}", "bigBed 9")
        | {"itemRgb": "on", "visibility": "pack"}
        for stage in range(stages)
    ]
    tracks += [
        _hub_track(f"boundary_stage{s}", f"boundary.stage{s}.bw", f"Boundary, st. {s}", "bigWig 0 1")
        | {"viewLimits": "0:1", "visibility": "full"}
        for s in range(stages)
    ]
    surprisal = _hub_track("surprisal", "surprisal.bw", "Surprisal", "bigWig 0 16")
    tracks.append(
        surprisal | {"viewLimits": "0:4", "visibility": "full", "yLineOnOff": "on", "yLineMark": "2"}
    )
    return "\n".join(
        "".join(f"{key} {value}\n" for key, value in stanza.items()) for stanza in [hub, genome, *tracks]
    )


_LONG_LABELS = {
    "chunks": "Chunks that the model has learned; the score is a thousand times the probability of the boundary",
    "boundary": "Probability that a chunk begins at the base",
    "surprisal": "Surprisal in bits: -log2 p(base | the bases before it); four equally likely bases have 2",
}


def _hub_track(name: str, url: str, label: str, kind: str) -> dict[str, str]:
    long_label = _LONG_LABELS[name.split("_")[0]]
    return {"track": name, "type": kind, "bigDataUrl": url, "shortLabel": label, "longLabel": long_label}
