"""Bits per base on held-out contigs, beside Markov baselines.

REQUIRED INPUTS: <results>/model/, <results>/shards/, or <results>/entropies/ where the configuration has entropy_model
OUTPUTS: <results>/evaluation/metrics.json
"""


rule evaluate:
    input:
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
        manifest=lambda wildcards: shards_with("test"),
        shards=expand(f"{READ_SHARDS}/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/evaluation/metrics.json",
    log:
        f"{RESULTS}/logs/evaluate.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(240),
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        shards=subpath(input.manifest, parent=True),
        batch_size=config["evaluate"]["batch_size"],
        device=config["train"]["device"],
        cpu_threads=config["train"]["threads"],
    shell:
        "genotok evaluate {params.model:q} {params.shards:q} --split test -o {output:q} "
        "--batch-size {params.batch_size} --device {params.device} --threads {params.cpu_threads} > {log:q} 2>&1"
