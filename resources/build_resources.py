"""Make the demo's genomes and variants, labelled sequences, and the small files of the tests, from their sources.

    python resources/build_resources.py DATA_DIR

DATA_DIR holds the sources under the names in its MANIFEST.tsv (file, repository, path, commit, bytes, sha256,
content, licence). Each source is checked against that list first. Everything written is listed in a
SOURCES.tsv beside it, with where it came from and how it was made. A second run gives the same bytes.
"""

import csv
import gzip
import re
import shutil
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import known_motifs
import pysam
from consequence import CodingSequence, consequence, genes_at, read_coding_sequences
from near_copies import K, containment, kmers, nearest_kept

from genotok.atomic import sha256_of

RESOURCES = Path(__file__).resolve().parent
TEST_DATA = RESOURCES.parent / "tests" / "data"
COLUMNS = ["file", "repository", "path", "commit", "bytes", "sha256", "content", "licence", "derived"]

SARS_COV_2 = "NC_045512.2"
HELD_OUT_SHARE = 0.01  # of a virus's K-mers in SARS-CoV-2; more would let the held-out genome into training
NEAR_COPY_SHARE = 0.15  # of K-mers: about 9 % of the bases differ
MIN_EXPECTED_COUNT = 10
SAMPLE_EVERY = 25  # records of the demo, which is scored on two cores
INFERRED = ("Reconstructed_root_sequence", "ancestral_sequence")  # reconstructions, not observed genomes
AWKWARD_PIECES = [  # 1-based, closed: gaps of N, IUPAC letters, and a contig end behind a gap
    ("NZ_KN046818.1", 4_530_001, 4_560_000),
    ("NZ_KN046818.1", 5_140_001, 5_160_000),
    ("NZ_KN046822.1", 6_332, 16_331),
]
LABELLED = {
    "ecoli_promoters.csv.gz": "cls/nuctransformer_ecoli_promoter_v9d3.csv",
    "enhancers.csv.gz": "cls/nuctransformer_enhancer.csv",
    "ncrna_test.fasta.gz": "cls/ncrna_nRC_test.fasta",
    "ncrna_train.fasta.gz": "cls/ncrna_nRC_train.fasta",
}
COPIED_FOR_TESTS = [
    "genomes/rCRS_NC_012920_derived.fa",
    "genomes/MT-human.fa",
    "human/freebayes_hla.fa",
    "human/freebayes_hla.vcf.gz",
    "human/freebayes_q.fa",
    "human/freebayes_q.vcf.gz",
    "human/freebayes_NA12878.chr22.tiny.vcf",
]


class Record(NamedTuple):
    """One FASTA record: the name up to the first blank, the rest of the header, the letters."""

    name: str
    description: str
    sequence: str


class Sources:
    """The source files, and the list of what has been made from them."""

    def __init__(self, data_dir: Path):
        self.data_dir = data_dir
        with open(data_dir / "MANIFEST.tsv", newline="") as handle:
            self.rows = {row["file"]: row for row in csv.DictReader(handle, delimiter="\t")}
        self.made: dict[Path, list[dict[str, str]]] = {RESOURCES: [], TEST_DATA: []}

    def path(self, name: str) -> Path:
        """The path of a source, once its bytes are known to be the listed ones."""
        path = self.data_dir / name
        if sha256_of(path) != self.rows[name]["sha256"]:
            sys.exit(f"{path}: the SHA-256 differs from the one in MANIFEST.tsv; fetch the file again")
        return path

    def fasta(self, name: str) -> list[Record]:
        """The records of a FASTA source, upper case."""
        with pysam.FastxFile(str(self.path(name))) as handle:
            return [Record(r.name or "", r.comment or "", r.sequence.upper()) for r in handle]

    def note(self, made: Path, names: list[str], content: str, derived: str) -> None:
        """List a file that was made from the named sources."""
        rows = [self.rows[name] for name in names]
        joined = {
            key: "; ".join(dict.fromkeys(row[key] for row in rows))
            for key in ("repository", "path", "commit", "licence")
        }
        self.note_origin(made, joined, content, derived)

    def note_origin(self, made: Path, origin: dict[str, str], content: str, derived: str) -> None:
        """List a file by its repository, path, commit and licence."""
        folder = next(folder for folder in self.made if made.is_relative_to(folder))
        size, digest = str(made.stat().st_size), sha256_of(made)
        about = {"file": str(made.relative_to(folder)), "bytes": size, "sha256": digest}
        self.made[folder].append(origin | about | {"content": content, "derived": derived})
        print(f"{made.relative_to(RESOURCES.parent)}\t{size} bytes\t{content}")

    def write_lists(self) -> None:
        """Write SOURCES.tsv into each folder."""
        for folder, rows in self.made.items():
            with open(folder / "SOURCES.tsv", "w", newline="") as handle:
                writer = csv.DictWriter(handle, COLUMNS, delimiter="\t", lineterminator="\n")
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: row["file"]))


def main(data_dir: Path) -> None:
    """Write everything; see the module's docstring."""
    for folder in (RESOURCES / "genomes", RESOURCES / "variants", RESOURCES / "labelled", TEST_DATA):
        folder.mkdir(parents=True, exist_ok=True)
    sources = Sources(data_dir)
    make_viruses(sources)
    make_microviridae(sources)
    make_single_genomes(sources)
    make_fitness_variants(sources)
    copy_labelled_sets(sources)
    make_known_motifs(sources)
    make_awkward_fasta(sources)
    copy_test_files(sources)
    sources.write_lists()


def write_fasta(path: Path, records: Iterable[Record]) -> None:
    """Write BGZF-compressed FASTA, 80 letters a line."""
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(fasta_text(records).encode())


def fasta_text(records: Iterable[Record]) -> str:
    """FASTA, 80 letters a line."""
    lines = []
    for record in records:
        lines.append(f">{record.name} {record.description}".rstrip())
        lines += [record.sequence[i : i + 80] for i in range(0, len(record.sequence), 80)]
    return "\n".join(lines) + "\n"


def described(records: list[Record]) -> str:
    """What a FASTA file holds, in the words of MANIFEST.tsv."""
    letters = "".join(record.sequence for record in records)
    lengths = [len(record.sequence) for record in records]
    strong, known = letters.count("G") + letters.count("C"), sum(letters.count(base) for base in "ACGT")
    other = len(letters) - known - letters.count("N")
    spread = f"n={len(records)} total={len(letters)} min={min(lengths)} max={max(lengths)}"
    return f"{spread} N={letters.count('N')} nonACGTN={other} GC={strong / known:.1%}"


def make_viruses(sources: Sources) -> None:
    """Reference viruses without SARS-CoV-2, near copies, sub-regions, and inferred ancestors."""
    name = "genomes/viral/nextclade_references.fasta"
    held_out = kmers(sources.fasta("genomes/sarscov2_NC_045512v2.fa")[0].sequence)
    candidates = []
    for record in sources.fasta(name):
        share = containment(kmers(record.sequence), held_out)
        if share > HELD_OUT_SHARE:
            report_dropped(record, f"{share:.0%} of its {K}-mers stand in the held-out SARS-CoV-2")
        elif record.name.startswith(INFERRED):
            report_dropped(record, "an inferred ancestor, not an observed genome")
        elif not record.name:
            report_dropped(record, "has no name")
        else:
            candidates.append(record._replace(name=re.sub(r"[^A-Za-z0-9._-]+", "_", record.name)))
    kept = without_near_copies(candidates)
    path = RESOURCES / "genomes" / "viruses.fa.gz"
    write_fasta(path, kept)
    rule = f"a record is dropped when a longer one shares more than {NEAR_COPY_SHARE:.0%} of its {K}-mers"
    derived = (
        f"coronaviruses, inferred ancestors and unnamed records dropped; {rule}; odd characters in names -> _"
    )
    sources.note(path, [name], described(kept), derived)


def make_microviridae(sources: Sources) -> None:
    """One phage of each kind in a collection of phiX174's relatives."""
    name = "genomes/microviridae_sft.fna"
    records = sources.fasta(name)
    reference = records[0]
    same = [containment(kmers(reference.sequence), kmers(record.sequence)) for record in records]
    others = [record for record, share in zip(records, same, strict=True) if share <= NEAR_COPY_SHARE]
    copies = len(records) - len(others) - 1
    print(f"dropped\t{copies} near copies of {reference.name}, which share {min(same):.0%} or more with it")
    kept = [reference, *without_near_copies(others)]
    path = RESOURCES / "genomes" / "microviridae.fa.gz"
    write_fasta(path, kept)
    rule = f"records that share more than {NEAR_COPY_SHARE:.0%} of their {K}-mers with the first one dropped"
    sources.note(path, [name], described(kept), rule)


def without_near_copies(records: list[Record]) -> list[Record]:
    """The records of which none is a near copy of another, in their order."""
    verdicts = nearest_kept([record.sequence for record in records], NEAR_COPY_SHARE)
    kept = []
    for record, verdict in zip(records, verdicts, strict=True):
        if verdict is None:
            kept.append(record)
        else:
            report_dropped(record, f"shares {verdict[1]:.0%} of its {K}-mers with {records[verdict[0]].name}")
    if len({record.name for record in kept}) < len(kept):
        sys.exit("two kept records have the same name; rename one of them")
    return kept


def report_dropped(record: Record, reason: str) -> None:
    """Say which record was left out and why."""
    print(f"dropped\t{record.name or record.description}\t{len(record.sequence)} bp\t{reason}")


def make_single_genomes(sources: Sources) -> None:
    """Genomes that are taken whole; those without an accession as their name get it."""
    whole = [
        ("ecoli_K12", "genomes/ecoli_K12_MG1655_GCF_000005845.2.fna.gz", None),
        ("haemophilus_influenzae", "genomes/lexicmap/GCF_001457655.1.fa.gz", None),
        ("lambda", "genomes/lambda_NC_001416.fa", "NC_001416.1"),
        ("mitochondrion", "genomes/rCRS_NC_012920_derived.fa", None),
        ("sars_cov_2", "genomes/sarscov2_NC_045512v2.fa", SARS_COV_2),
        ("yeast_R64", "genomes/yeast_R64-1-1.toplevel.fa.gz", None),
    ]
    for short, name, new_name in whole:
        records = sources.fasta(name)
        if new_name:
            records = [records[0]._replace(name=new_name)]
        path = RESOURCES / "genomes" / f"{short}.fa.gz"
        write_fasta(path, records)
        renamed = f"contig renamed {new_name}, " if new_name else ""
        sources.note(path, [name], described(records), f"{renamed}recompressed as BGZF")


def make_fitness_variants(sources: Sources) -> None:
    """The measured fitness of every well-counted SARS-CoV-2 mutation, as a VCF."""
    names = [
        "vep/sars2_nt_fitness_2024-11-06.csv",
        "vep/sars2_reference.gb",
        "genomes/sarscov2_NC_045512v2.fa",
    ]
    table, genbank = sources.path(names[0]), sources.path(names[1])
    genome = sources.fasta(names[2])[0].sequence
    if genbank_sequence(genbank) != genome:
        sys.exit(f"{genbank}: its sequence differs from the genome's; the positions would not fit")
    coding = read_coding_sequences(genbank)
    lines = fitness_lines(table, genome, coding)
    make_annotation(sources, names[1], coding)
    header = fitness_header(len(genome))
    folder = RESOURCES / "variants"
    write_fitness_variants(sources, folder / "sars_cov_2_fitness.vcf.gz", names, header, lines, "")
    sample = lines[SAMPLE_EVERY // 2 :: SAMPLE_EVERY]
    part = f"; every {SAMPLE_EVERY}th record"
    write_fitness_variants(sources, folder / "sars_cov_2_fitness_sample.vcf.gz", names, header, sample, part)


def make_annotation(sources: Sources, name: str, coding: list[CodingSequence]) -> None:
    """The genes of SARS-CoV-2 as GFF3."""
    lines = ["##gff-version 3"]
    for number, (gene, start, end) in enumerate(coding, 1):
        place = f"{SARS_COV_2}\tGenBank\tCDS\t{start + 1}\t{end}\t.\t+\t0"
        lines.append(f"{place}\tID=cds{number};gene={gene}")
    made = RESOURCES / "genomes" / "sars_cov_2.gff3"
    made.write_text("\n".join(lines) + "\n")
    sources.note(
        made, [name], f"{len(coding)} coding sequences", "CDS features of the GenBank record as GFF3"
    )


def write_fitness_variants(
    sources: Sources, path: Path, names: list[str], header: list[str], lines: list[str], part: str
) -> None:
    """Write records of the fitness VCF with their index, and note where they came from."""
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write("".join(header + lines).encode())
    pysam.tabix_index(str(path), preset="vcf", force=True)
    alleles = sum(line.split("\t")[4].count(",") + 1 for line in lines)
    content = f"##fileformat=VCFv4.3 records={len(lines)} alleles={alleles} contigs={SARS_COV_2}"
    chosen = f"expected_count >= {MIN_EXPECTED_COUNT}, without the reference base"
    derived = f"{chosen}; REF from the genome; consequences from the CDS features{part}"
    sources.note(path, names, content, derived)
    sources.note(path.with_name(f"{path.name}.tbi"), names, "tabix index", "index of the file beside it")


def genbank_sequence(path: Path) -> str:
    """The letters of a one-record GenBank file, upper case."""
    return re.sub("[^A-Z]", "", path.read_text().split("ORIGIN")[1].upper())


def fitness_header(length: int) -> list[str]:
    """The header lines of the fitness VCF."""
    info = [
        ("FITNESS", "A", "Float", "Fitness effect from mutation counts: 0 neutral, negative harmful"),
        ("EXPECTED_COUNT", "A", "Float", "Times that the mutation would have arisen without selection"),
        ("CONSEQUENCE", "A", "String", "Severest over the reading frames of the site"),
        ("GENE", "1", "String", "Reading frames that hold the site, joined by &"),
        ("OTHER_FOUNDER", "0", "Flag", "Some clade founder lacks REF here: fitness is not relative to REF"),
    ]  # fmt: skip
    declared = [f'##INFO=<ID={i},Number={n},Type={t},Description="{d}">\n' for i, n, t, d in info]
    contig = f"##contig=<ID={SARS_COV_2},length={length}>\n"
    return ["##fileformat=VCFv4.3\n", contig, *declared, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"]


def fitness_lines(table: Path, genome: str, coding: list[CodingSequence]) -> list[str]:
    """One VCF line for each site, its mutations in the order of the alphabet."""
    with open(table, newline="") as handle:
        rows = sorted(csv.DictReader(handle), key=lambda row: (int(row["nt_site"]), row["nt"]))
    lines = []
    for site, group in groupby(rows, key=lambda row: int(row["nt_site"])):
        at_site, ref = list(group), genome[site - 1]
        counted = [
            row for row in at_site if row["nt"] != ref and float(row["expected_count"]) >= MIN_EXPECTED_COUNT
        ]
        if not counted:
            continue
        genes = genes_at(site - 1, coding)
        info = [
            "FITNESS=" + ",".join(row["fitness"] for row in counted),
            "EXPECTED_COUNT=" + ",".join(row["expected_count"] for row in counted),
            "CONSEQUENCE=" + ",".join(consequence(genome, site - 1, row["nt"], coding) for row in counted),
        ]
        info += ["GENE=" + "&".join(genes)] if genes else []
        info += ["OTHER_FOUNDER"] if has_other_founder(at_site, ref) else []
        alts = ",".join(row["nt"] for row in counted)
        lines.append(f"{SARS_COV_2}\t{site}\t.\t{ref}\t{alts}\t.\t.\t{';'.join(info)}\n")
    return lines


def has_other_founder(at_site: list[dict[str, str]], ref: str) -> bool:
    """Whether the clades' founders differ at a site, or all have another base, which then has fitness 0."""
    founder = {row["nt"] for row in at_site if float(row["fitness"]) == 0}
    return founder != {ref} or at_site[0]["nt_differs_among_clade_founders"] == "True"


def copy_labelled_sets(sources: Sources) -> None:
    """Sequences with classes, as they are."""
    for short, name in LABELLED.items():
        path = RESOURCES / "labelled" / short
        path.write_bytes(gzip.compress(sources.path(name).read_bytes(), mtime=0))
        sources.note(path, [name], sources.rows[name]["content"], "compressed")


def make_known_motifs(sources: Sources) -> None:
    """Consensus sequences of textbooks as motifs."""
    known_motifs.main()
    origin = {
        "repository": "genotok",
        "path": "resources/known_motifs.py",
        "commit": "this one",
        "licence": "MIT",
    }
    derived = (
        "consensus sequences as published, each named with its paper in the script; probabilities by rule"
    )
    sources.note_origin(known_motifs.KNOWN, origin, f"motifs={len(known_motifs.MOTIFS)}", derived)


def make_awkward_fasta(sources: Sources) -> None:
    """Pieces of a draft assembly with gaps and IUPAC letters, as plain gzip that cannot be indexed."""
    name = "genomes/lexicmap/GCF_000742135.1.fa.gz"
    contigs = {record.name: record.sequence for record in sources.fasta(name)}
    pieces = [
        Record(f"{contig}_{first}_{last}", f"{contig}:{first}-{last}", contigs[contig][first - 1 : last])
        for contig, first, last in AWKWARD_PIECES
    ]
    path = TEST_DATA / "awkward.fa.gz"
    path.write_bytes(gzip.compress(fasta_text(pieces).encode(), mtime=0))
    sources.note(path, [name], described(pieces), "pieces of two contigs, plain gzip")


def copy_test_files(sources: Sources) -> None:
    """Small real files that the tests read as they are."""
    for name in COPIED_FOR_TESTS:
        path = TEST_DATA / Path(name).name
        shutil.copyfile(sources.path(name), path)
        sources.note(path, [name], sources.rows[name]["content"], "unchanged")
    name = "vcf/haplogrep_example-wgs.vcf"
    path = TEST_DATA / "haplogrep_example-wgs.vcf.gz"
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(sources.path(name).read_bytes())
    sources.note(path, [name], sources.rows[name]["content"], "recompressed as BGZF")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python resources/build_resources.py DATA_DIR")
    main(Path(sys.argv[1]))
