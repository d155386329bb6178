"""The model.

REQUIRED INPUTS: <results>/shards/manifest.json and the shards that it names, or those of <results>/entropies/ and
<results>/entropy_model/ where the configuration has entropy_model; the tokenizer's file where it has one; published
weights where the configuration has train.main_network.
OUTPUTS: <results>/model/ with config.json, model.safetensors and metrics.jsonl. Its checkpoints/ and
tensorboard/ are no outputs of the rule, so that a run that was killed goes on where it was; nor is README.md, the
model's card, which Snakemake would remove before a new run although a person may have written in it.
"""


rule train:
    input:
        manifest=lambda wildcards: shards_with("train"),
        shards=expand(f"{READ_SHARDS}/{{genome}}", genome=trained_genomes()),
        tokenizer=tokenizer_file(),
        entropy=entropy_model_files(),
        published=published_weights(),
    output:
        config=f"{RESULTS}/model/config.json",
        weights=ensure(f"{RESULTS}/model/model.safetensors", non_empty=True),
        metrics=f"{RESULTS}/model/metrics.jsonl",
    log:
        f"{RESULTS}/logs/train.log",
    benchmark:
        f"{RESULTS}/benchmarks/train.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(1440),
        gpu=train_gpus(),
        nodes=1,
    params:
        settings=train_settings,
        provenance=training_hash,
        folder=subpath(output.config, parent=True),
    shell:
        # The shell waits for the checkpoint that a run writes when it is told to end.
        'trap : TERM; GENOTOK_PROVENANCE={params.provenance} bash "$GENOTOK_SOURCE"/workflow/scripts/train.sh {params.folder:q} {resources.gpu} '
        "{resources.nodes} {threads} "
        "<<< {params.settings:q} > {log:q} 2>&1"
