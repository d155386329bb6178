"""Tokenizers, compared on equal work; where the configuration has comparison.

REQUIRED INPUTS: <results>/shards/, the variants and labelled sequences of the section, and the genome of the variants.
OUTPUTS: <results>/comparison/ with plan.json and a folder a run, and <results>/figures/comparison/. A run's model/ and
entropy_model/ are no outputs of the rule, so that one that was killed goes on where it was.
"""


rule compare_vocabulary:
    input:
        manifest=f"{RESULTS}/shards/manifest.json",
        shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/comparison/bpe_{{size}}.json",
    log:
        f"{RESULTS}/logs/compare_vocabulary/{{size}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_vocabulary/{{size}}.tsv"
    wildcard_constraints:
        size="[0-9]+",
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(240),
    params:
        shards=subpath(input.manifest, parent=True),
    shell:
        "genotok bpe {params.shards:q} -o {output:q} --vocab-size {wildcards.size} > {log:q} 2>&1"


rule compare_plan:
    input:
        manifest=lambda wildcards: shards_with("test", f"{RESULTS}/shards"),
        shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
        vocabularies=compared_vocabularies(),
    output:
        f"{RESULTS}/comparison/plan.json",
    log:
        f"{RESULTS}/logs/compare_plan.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_plan.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        settings=comparison_settings(),
    shell:
        "genotok compare plan - -o {output:q} <<< {params.settings:q} > {log:q} 2>&1"


rule compare_arm:
    input:
        unpack(compared_files),
        plan=f"{RESULTS}/comparison/plan.json",
        shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/comparison/runs/{{arm}}-{{seed}}/measures.json",
    log:
        f"{RESULTS}/logs/compare_arm/{{arm}}-{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_arm/{{arm}}-{{seed}}.tsv"
    wildcard_constraints:
        arm=any_of(COMPARISON["arms"]),
        seed="[0-9]+",
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(480),
        gpu=train_gpus(),
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "trap : TERM; genotok compare run {input.plan:q} --arm {wildcards.arm} --seed {wildcards.seed} "
        "-o {params.folder:q} > {log:q} 2>&1"


rule compare_baselines:
    input:
        unpack(compared_files),
        plan=f"{RESULTS}/comparison/plan.json",
        shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/comparison/baselines.json",
    log:
        f"{RESULTS}/logs/compare_baselines.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_baselines.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(120),
    shell:
        "genotok compare baselines {input.plan:q} -o {output:q} > {log:q} 2>&1"


rule report_comparison:
    input:
        plan=f"{RESULTS}/comparison/plan.json",
        baselines=f"{RESULTS}/comparison/baselines.json",
        runs=expand(
            f"{RESULTS}/comparison/runs/{{arm}}-{{seed}}/measures.json",
            arm=COMPARISON["arms"],
            seed=COMPARISON["seeds"],
        ),
    output:
        figure=report(
            f"{RESULTS}/figures/comparison/comparison.svg",
            caption="../report/comparison.rst",
            category="7 Tokenizers compared",
            labels={"figure": "quality against cost"},
        ),
        table=report(
            f"{RESULTS}/figures/comparison/comparison.tsv",
            caption="../report/comparison_table.rst",
            category="7 Tokenizers compared",
            labels={"figure": "all measures"},
        ),
        page=f"{RESULTS}/figures/comparison/comparison.md",
        summary=f"{RESULTS}/figures/comparison/comparison.json",
    log:
        f"{RESULTS}/logs/report_comparison.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_comparison.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folder=subpath(output.summary, parent=True),
    shell:
        "genotok compare report {input.plan:q} {input.runs:q} --baselines {input.baselines:q} "
        "-o {params.folder:q} > {log:q} 2>&1"
