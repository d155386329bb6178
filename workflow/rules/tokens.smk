"""What the chunks of the model follow, and the same chunks for genome browsers.

REQUIRED INPUTS: <results>/genomes/, <results>/model/
OUTPUTS: <results>/figures/tokens/, <results>/trackhub/
"""


rule report_tokens:
    input:
        unpack(studied_files),
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        enrichment=report(
            f"{RESULTS}/figures/tokens/token_enrichment.svg",
            caption="../report/token_enrichment.rst",
            category="3 Learned chunks",
            labels={"figure": "where chunks begin"},
        ),
        words=report(
            f"{RESULTS}/figures/tokens/token_words.svg",
            caption="../report/token_words.rst",
            category="3 Learned chunks",
            labels={"figure": "most frequent chunks"},
        ),
        stages=report(
            f"{RESULTS}/figures/tokens/token_stages.svg",
            caption="../report/token_stages.rst",
            category="3 Learned chunks",
            labels={"figure": "stages beside each other"},
        ),
        track=report(
            f"{RESULTS}/figures/tokens/token_track.svg",
            caption="../report/token_track.rst",
            category="3 Learned chunks",
            labels={"figure": "compression along the genome"},
        ),
        stability=report(
            f"{RESULTS}/figures/tokens/token_stability.svg",
            caption="../report/token_stability.rst",
            category="3 Learned chunks",
            labels={"figure": "stability under one letter"},
        ),
        tables=multiext(
            f"{RESULTS}/figures/tokens/",
            "token_enrichment.tsv",
            "token_words.tsv",
            "token_stages.tsv",
            "token_track.tsv",
            "token_stability.tsv",
        ),
        summary=f"{RESULTS}/figures/tokens/tokens.json",
    log:
        f"{RESULTS}/logs/report_tokens.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_tokens.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(240),
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        folder=subpath(output.summary, parent=True),
        study=study_options(),
        annotation=annotation_options,
        device=config["train"]["device"],
        cpu_threads=config["train"]["threads"],
    shell:
        "genotok report tokens {input.fasta:q} -m {params.model:q} {params.study:q} {params.annotation:q} "
        "--device {params.device} --threads {params.cpu_threads} -o {params.folder:q} > {log:q} 2>&1"


rule trackhub:
    input:
        unpack(studied_files),
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        directory(f"{RESULTS}/trackhub"),
    log:
        f"{RESULTS}/logs/trackhub.log",
    benchmark:
        f"{RESULTS}/benchmarks/trackhub.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(240),
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        study=studied_region_options(),
        device=config["train"]["device"],
        cpu_threads=config["train"]["threads"],
    shell:
        "genotok tokens {input.fasta:q} -m {params.model:q} {params.study:q} "
        "--device {params.device} --threads {params.cpu_threads} --trackhub {output:q} > {log:q} 2>&1"
