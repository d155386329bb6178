"""Variant scores: each VCF is cut into pieces, which are scored side by side and put together again.

A set is called {name} where it is scored with the model that is trained here, else {name}.{model}.

REQUIRED INPUTS: <results>/model/ or the models of the table of variants, its VCFs and their genomes.
OUTPUTS: <results>/scores/{set}.vcf.gz with .tbi, and {set}.parquet;
    <results>/traitgym/{name}/features/{model}.parquet and <results>/cadd/{name}/{model}.tsv.gz with .tbi
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
    benchmark:
        f"{RESULTS}/benchmarks/split_variants/{{set}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(60),
    params:
        context=split_context(),
    shell:
        "genotok vcf split --context {params.context} {input:q} {output:q} > {log:q} 2>&1"


rule score_variants:
    input:
        vcf=f"{RESULTS}/scores/pieces/{{set}}/{{scatteritem}}.vcf.gz",
        fasta=variant_genome,
        model=scoring_model_files,
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
        mem_mb=scaled(2000),
        runtime=scaled(480),
        gpu=train_gpus(),
    params:
        model=scoring_model,
        provenance=scoring_hash,
        window=config["score"]["window"],
        strands=config["score"]["strands"],
        ref_mismatch=config["score"]["ref_mismatch"],
        device=config["train"]["device"],
        options=score_options(),
    shell:
        "GENOTOK_PROVENANCE={params.provenance} genotok score {input.vcf:q} -r {input.fasta:q} -m {params.model:q} -o {output.vcf:q} "
        "--parquet {output.table:q} --window {params.window} --strands {params.strands} "
        "--ref-mismatch {params.ref_mismatch} "
        "--device {params.device} {params.options:q} --threads {threads} > {log:q} 2>&1"


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
    benchmark:
        f"{RESULTS}/benchmarks/gather_scores/{{set}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(60),
    shell:
        "(genotok vcf gather {input.vcfs:q} -o {output.vcf:q} && "
        "genotok vcf gather-tables {input.tables:q} -o {output.table:q}) > {log:q} 2>&1"


rule export_traitgym:
    input:
        exported_set,
    output:
        f"{RESULTS}/traitgym/{{name}}/features/{{model}}.parquet",
    log:
        f"{RESULTS}/logs/export_traitgym/{{name}}.{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_traitgym/{{name}}.{{model}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    shell:
        "genotok vcf export {input:q} --traitgym {output:q} > {log:q} 2>&1"


rule export_cadd:
    input:
        exported_set,
    output:
        table=f"{RESULTS}/cadd/{{name}}/{{model}}.tsv.gz",
        index=f"{RESULTS}/cadd/{{name}}/{{model}}.tsv.gz.tbi",
    log:
        f"{RESULTS}/logs/export_cadd/{{name}}.{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export_cadd/{{name}}.{{model}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    shell:
        "genotok vcf export {input:q} --cadd {output.table:q} > {log:q} 2>&1"
