"""A small model, and its entropies in the shards, by which the model cuts; where the configuration has entropy_model.

REQUIRED INPUTS: <results>/shards/
OUTPUTS: <results>/entropy_model/, and <results>/entropies/ as <results>/shards/ is. As in train.smk, what lets a run
that was killed go on is no output.
"""


localrules:
    merge_entropies,


rule train_entropy_model:
    input:
        manifest=f"{RESULTS}/shards/manifest.json",
        shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
        tokenizer=tokenizer_file(),
    output:
        config=f"{RESULTS}/entropy_model/config.json",
        weights=ensure(f"{RESULTS}/entropy_model/model.safetensors", non_empty=True),
        metrics=f"{RESULTS}/entropy_model/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train_entropy_model.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_entropy_model.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: ENTROPY["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(1440),
        gpu=entropy_gpus(),
    params:
        settings=entropy_train_settings(),
        folder=subpath(output.config, parent=True),
    shell:
        "trap : TERM; genotok entropy train - -o {params.folder:q} --resume --restart-if-changed "
        "<<< {params.settings:q} > {log:q} 2>&1"


rule annotate_genome:
    input:
        shards=f"{RESULTS}/shards/{{genome}}",
        config=f"{RESULTS}/entropy_model/config.json",
        weights=f"{RESULTS}/entropy_model/model.safetensors",
    output:
        directory(f"{RESULTS}/entropies/{{genome}}"),
    log:
        f"{RESULTS}/logs/annotate_genome/{{genome}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/annotate_genome/{{genome}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: ENTROPY["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(480),
        gpu=entropy_gpus(),
    params:
        model=subpath(input.config, parent=True),
        dtype=ENTROPY["dtype"],
        device=ENTROPY["train"]["device"],
        cpu_threads=ENTROPY["train"]["threads"],
    shell:
        "genotok entropy annotate {input.shards:q} -m {params.model:q} -o {output:q} --dtype {params.dtype} "
        "--device {params.device} --threads {params.cpu_threads} > {log:q} 2>&1"


use rule merge_shards as merge_entropies with:
    input:
        expand(f"{RESULTS}/entropies/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/entropies/manifest.json",
    log:
        f"{RESULTS}/logs/merge_entropies.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge_entropies.tsv"
