"""Where chunks begin in the codons of a bacterial genome: `python -m benchmarks.codon_positions RUN FASTA -o JSON`.

For a genome without an annotation at hand: what is read as genes are its long open reading frames, of 300 codons and
more, which hardly ever arise by chance. Of frames that overlap the longest is kept. Whoever has a GFF3 takes
`genotok report tokens --gff`, which this calls.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.machine import describe_run, write_result
from genotok.genomes.alphabets import reverse_complement
from genotok.genomes.records import sequence_records
from genotok.report.tokens import report_tokens

CODONS = 300
STARTS, STOPS = {"ATG", "GTG", "TTG"}, {"TAA", "TAG", "TGA"}

Frame = tuple[int, int, str]  # start and end from 0, half-open, and strand


def long_frames(letters: str, codons: int = CODONS) -> list[Frame]:
    """Open reading frames with their stop codon on both strands, by place; of overlapping ones the longest.

    Args:
        letters: of a contig, upper case.
        codons: that a frame has at least, its stop codon not counted.

    Returns:
        Start and end, from 0 and half-open, on the forward strand, and the strand of the frame.
    """
    length = len(letters)
    found: list[Frame] = [(start, end, "+") for start, end in _of_strand(letters, codons)]
    other = reverse_complement(letters.encode()).decode()
    found += [(length - end, length - start, "-") for start, end in _of_strand(other, codons)]
    kept: list[Frame] = []
    taken = bytearray(length)
    for start, end, strand in sorted(found, key=lambda frame: (frame[0] - frame[1], frame)):
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            kept.append((start, end, strand))
    return sorted(kept)


def _of_strand(letters: str, codons: int) -> list[tuple[int, int]]:
    """From the first start codon behind a stop to the next stop, in each of three frames."""
    found = []
    for frame in range(3):
        begin: int | None = None
        for place in range(frame, len(letters) - 2, 3):
            codon = letters[place : place + 3]
            if codon in STOPS:
                if begin is not None and place - begin >= 3 * codons:
                    found.append((begin, place + 3))
                begin = None
            elif codon.strip("ACGT"):
                begin = None
            elif begin is None and codon in STARTS:
                begin = place
    return found


def write_frames(fasta: Path, out: Path) -> int:
    """The frames of a genome as the CDS lines of a GFF3; returns how many."""
    lines = ["##gff-version 3"]
    for record in sequence_records(fasta):
        letters = b"".join(record.blocks).decode().upper()
        for start, end, strand in long_frames(letters):
            about = f"ID=frame{len(lines)}"
            lines.append(f"{record.name}\tframes\tCDS\t{start + 1}\t{end}\t.\t{strand}\t0\t{about}")
    out.write_text("\n".join(lines) + "\n")
    return len(lines) - 1


def main() -> None:
    """Find frames, read the genome, and write the rows of codon positions and of start and stop codons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codon_positions")
    parser.add_argument("model", type=Path, help="folder of a run")
    parser.add_argument("fasta", type=Path, help="genome, plain or BGZF")
    parser.add_argument("--region", nargs="*", default=[], metavar="CONTIG:START-END", help="without it all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--commit", help="of the code, where it is no git checkout")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        gff, out = Path(scratch) / "frames.gff3", Path(scratch) / "tokens"
        frames = write_frames(options.fasta, gff)
        report_tokens(
            options.model, options.fasta, out, gff=gff, regions=options.region, sites=0, device=options.device
        )
        table = pd.read_table(out / "token_enrichment.tsv")
    shown = table[table["kind"].str.contains("codon")]
    print(shown.to_string(index=False))
    about = {"genome": options.fasta.name, "frames": frames, "regions": options.region}
    rows = shown.astype(object).where(shown.notna(), None).to_dict("records")
    device = "cpu" if options.device == "cpu" else "cuda"
    write_result(options.output, describe_run(device, options.commit) | about | {"rows": rows})


if __name__ == "__main__":
    main()
