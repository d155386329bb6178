"""Small models whose scores are not small, and files made of letters and records."""

from pathlib import Path
from types import SimpleNamespace

import pysam
import torch

from genotok.models import GenomicLM, ModelConfig

DATA = Path(__file__).parents[1] / "data"
HEADER = "##fileformat=VCFv4.2\n{meta}#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def scoring_model(tokenizer: str) -> GenomicLM:
    config = ModelConfig(
        layout=["m1", ["T1"], "m1"],
        d_model=[32, 32],
        d_intermediate=[0, 64],
        attention={"heads": 2, "rotary_dim": 8, "window": -1},
        mamba2={"d_state": 8, "head_dim": 16, "chunk_size": 16},
        tokenizer=tokenizer,
    )
    torch.manual_seed(7)
    model = GenomicLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "conv" not in name and "chunker" not in name:
                weight.mul_(10 if name == "head.weight" else 4)
    return model


def write_fasta(path: Path, contigs: dict[str, str]) -> Path:
    """Write a FASTA; its index, that of an earlier one, is removed."""
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in contigs.items()))
    path.with_name(f"{path.name}.fai").unlink(missing_ok=True)
    return path


def write_vcf(path: Path, records: list[tuple], meta: str = "") -> Path:
    """Records are (CHROM, POS, REF, ALT), with INFO `.`, or whole lines."""
    lines = [
        record if isinstance(record, str) else "{}\t{}\t.\t{}\t{}\t.\t.\t.".format(*record)
        for record in records
    ]
    path.write_text(HEADER.format(meta=meta) + "".join(line + "\n" for line in lines))
    return path


def read_scores(path: Path) -> list[SimpleNamespace]:
    """One entry a record of a scored VCF, with the score fields as tuples."""
    with pysam.VariantFile(str(path)) as vcf:
        return [
            SimpleNamespace(
                place=(record.chrom, record.pos, record.ref, record.alts),
                llr=record.info.get("GENOTOK_LLR"),
                forward=record.info.get("GENOTOK_LLR_FWD"),
                reverse=record.info.get("GENOTOK_LLR_RC"),
                status=record.info.get("GENOTOK_STATUS"),
            )
            for record in vcf
        ]


def plan_of(pool, pairs):
    """What a pool wants to run for pairs of windows."""
    planner = pool.plans.planner()
    assert [planner.add(pair) for pair in pairs] == list(range(len(pairs)))
    return planner.plan()
