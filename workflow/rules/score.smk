"""Variant scores: each VCF is cut into pieces, which are scored side by side and put together again.

REQUIRED INPUTS: <results>/model/, the VCFs of the table of variants and their genomes.
OUTPUTS: <results>/scores/{set}.vcf.gz with .tbi, and {set}.parquet
"""


rule split_variants:
    input:
        variant_file,
    output:
        temp(
            scatter.pieces(
                f"{RESULTS}/scores/pieces/{{{{set}}}}/{{scatteritem}}.vcf.gz"
            )
        ),
    log:
        f"{RESULTS}/logs/split_variants/{{set}}.log",
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    shell:
        "genotok vcf split {input:q} {output:q} > {log:q} 2>&1"


rule score_variants:
    input:
        vcf=f"{RESULTS}/scores/pieces/{{set}}/{{scatteritem}}.vcf.gz",
        fasta=variant_genome,
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        vcf=temp(f"{RESULTS}/scores/pieces/{{set}}/{{scatteritem}}.scored.vcf.gz"),
        table=temp(f"{RESULTS}/scores/pieces/{{set}}/{{scatteritem}}.parquet"),
    log:
        f"{RESULTS}/logs/score_variants/{{set}}/{{scatteritem}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_variants/{{set}}/{{scatteritem}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=480,
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        window=config["score"]["window"],
        strands=config["score"]["strands"],
        ref_mismatch=config["score"]["ref_mismatch"],
        device=config["train"]["device"],
    shell:
        "genotok score {input.vcf:q} -r {input.fasta:q} -m {params.model:q} -o {output.vcf:q} "
        "--parquet {output.table:q} --window {params.window} --strands {params.strands} "
        "--ref-mismatch {params.ref_mismatch} "
        "--device {params.device} --threads {threads} > {log:q} 2>&1"


rule gather_scores:
    input:
        vcfs=gather.pieces(
            f"{RESULTS}/scores/pieces/{{{{set}}}}/{{scatteritem}}.scored.vcf.gz"
        ),
        tables=gather.pieces(
            f"{RESULTS}/scores/pieces/{{{{set}}}}/{{scatteritem}}.parquet"
        ),
    output:
        vcf=f"{RESULTS}/scores/{{set}}.vcf.gz",
        index=f"{RESULTS}/scores/{{set}}.vcf.gz.tbi",
        table=f"{RESULTS}/scores/{{set}}.parquet",
    log:
        f"{RESULTS}/logs/gather_scores/{{set}}.log",
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    shell:
        "(genotok vcf gather {input.vcfs:q} -o {output.vcf:q} && "
        "genotok vcf gather-tables {input.tables:q} -o {output.table:q}) > {log:q} 2>&1"
