"""A small workflow on pieces of real genomes, run by Snakemake for real."""

import os
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
GENOMES = REPOSITORY / "resources" / "genomes"
MOTIFS = REPOSITORY / "resources" / "motifs" / "known.meme"
VARIANTS = REPOSITORY / "resources" / "variants" / "sars_cov_2_fitness_sample.vcf.gz"

MODEL = {
    "layout": ["m1", ["T1"], "m1"],
    "d_model": [16, 16],
    "d_intermediate": [0, 32],
    "attention": {"heads": 2, "rotary_dim": 8, "window": -1},
    "mamba2": {"d_state": 8, "head_dim": 16, "chunk_size": 16},
}


class Workflow:
    """A working directory with a configuration, and the means to run Snakemake in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = {
            "genomes": "genomes.tsv",
            "variants": "variants.tsv",
            "tokenize": {"window": 256},
            "model": MODEL,
            "train": {"steps": 12, "batch_size": 4, "checkpoint_every": 2, "threads": 1, "log_every": 1},
            "score": {"window": 64, "pieces": 2},
            "report": {
                "region": "sars_cov_2/NC_045512.2:266-325",
                "tokens": {
                    "genome": "sars_cov_2",
                    "regions": ["NC_045512.2:201-1000"],
                    "gff": str(GENOMES / "sars_cov_2.gff3"),
                    "sites": 4,
                    "trackhub": True,
                },
                "saturation": {
                    "genome": "sars_cov_2",
                    "regions": ["NC_045512.2:266-295"],
                    "gff": str(GENOMES / "sars_cov_2.gff3"),
                },
                "attribution": {
                    "genome": "sars_cov_2",
                    "regions": ["NC_045512.2:271-290"],
                    "window": 40,
                    "steps": 4,
                },
                "motifs": {"min_seqlets": 2, "database": str(MOTIFS)},
            },
        }
        folder.mkdir()
        self._cut("lambda", "NC_001416.1", 12_000)
        self._cut("sars_cov_2", "NC_045512.2", 4_000)
        rows = ["genome\tsource\tsplit", "lambda\tlambda.fa\ttrain", "sars_cov_2\tsars_cov_2.fa\ttest"]
        (folder / "genomes.tsv").write_text("\n".join(rows) + "\n")
        rows = [
            "name\tvcf\tgenome\ttruth\tconsequence",
            "fitness\tvariants.vcf\tsars_cov_2\tFITNESS\tCONSEQUENCE",
        ]
        (folder / "variants.tsv").write_text("\n".join(rows) + "\n")
        with pysam.VariantFile(str(VARIANTS)) as source:
            lines = [str(record) for record in source.fetch("NC_045512.2", 0, 4_000)]
            (folder / "variants.vcf").write_text(str(source.header) + "".join(lines))
        self.write_config()

    def _cut(self, genome: str, contig: str, length: int) -> None:
        with pysam.FastaFile(str(self._indexed_copy(genome))) as fasta:
            text = f">{contig}\n{fasta.fetch(contig, 0, length)}\n"
        (self.folder / f"{genome}.fa").write_text(text)

    def _indexed_copy(self, genome: str) -> Path:
        copy = self.folder.parent / f"{self.folder.name}-{genome}.fa.gz"
        copy.write_bytes((GENOMES / f"{genome}.fa.gz").read_bytes())
        return copy

    def write_config(self) -> None:
        """Write `config.yaml`."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    def command(self, *arguments: str) -> list[str]:
        """Snakemake's command line."""
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        return [*snakemake, *([] if "--workflow-profile" in arguments else ["--cores", "2"]), *arguments]

    def run(
        self, *arguments: str, check: bool = True, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """Run Snakemake to its end, with further variables in its environment."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=os.environ | (variables or {}),
            text=True,
            capture_output=True,
            timeout=580,
        )
        if check and done.returncode:
            pytest.fail(f"snakemake ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
        return done

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake; what it says goes to `snakemake.log`."""
        with open(self.folder / "snakemake.log", "w") as log:
            return subprocess.Popen(self.command(*arguments), cwd=self.folder, stdout=log, stderr=log)

    def rules_to_run_with(self, section: str, key: str, value: object) -> set[str]:
        """The rules that Snakemake would run if one key of the configuration were another."""
        changed = self.config | {section: self.config[section] | {key: value}}
        (self.folder / "changed.yaml").write_text(yaml.safe_dump(changed))
        text = self.run("--dry-run", "--quiet", "host", "--configfile", "changed.yaml").stdout
        rules = set()
        for line in text.splitlines():
            words = line.split()
            if len(words) == 2 and words[1].isdigit() and words[0] != "total":
                rules.add(words[0])
        return rules - {"all"}

    def results(self) -> dict[str, bytes]:
        """The bytes of shards, model, metrics, scores, figures and track hub, as far as they are there."""
        folder = self.folder / "results"
        parts = ("shards", "evaluation", "scores", "figures", "trackhub")
        files = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
        files += [folder / "model" / name for name in ("config.json", "model.safetensors", "README.md")]
        files.append(folder / "model" / "metrics.jsonl")
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted([*files, folder / "index.html"])
            if path.exists()
        }
