"""Labelled sequences: linear probes of a frozen model, and fine-tuning, on the same splits.

REQUIRED INPUTS: <results>/model/ or the models of the section `downstream`, and its tables.
OUTPUTS: <results>/downstream/{labelled}/probe.json and finetune/ with test_metrics.json; <results>/figures/downstream/.
"""


rule probe:
    input:
        unpack(labelled_tables),
        model=labelled_model_files,
    output:
        f"{RESULTS}/downstream/{{labelled}}/probe.json",
    log:
        f"{RESULTS}/logs/probe/{{labelled}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/probe/{{labelled}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(480),
        gpu=train_gpus(),
    params:
        model=labelled_model,
        options=lambda wildcards: labelled_options(wildcards, "probe"),
        device=config["train"]["device"],
        cpu_threads=config["train"]["threads"],
    shell:
        "genotok probe {params.model:q} {input.table:q} {params.options:q} -o {output:q} "
        "--device {params.device} --threads {params.cpu_threads} > {log:q} 2>&1"


# The folder's checkpoints/ and tables/ are no outputs of the rule, so that a run that was killed goes on where it was.
rule finetune:
    input:
        unpack(labelled_tables),
        model=labelled_model_files,
    output:
        config=f"{RESULTS}/downstream/{{labelled}}/finetune/config.json",
        weights=f"{RESULTS}/downstream/{{labelled}}/finetune/model.safetensors",
        metrics=f"{RESULTS}/downstream/{{labelled}}/finetune/test_metrics.json",
    log:
        f"{RESULTS}/logs/finetune/{{labelled}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{labelled}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(1440),
        gpu=train_gpus(),
    params:
        model=labelled_model,
        options=lambda wildcards: labelled_options(wildcards, "finetune"),
        folder=subpath(output.metrics, parent=True),
        device=config["train"]["device"],
        cpu_threads=config["train"]["threads"],
    shell:
        "trap : TERM; genotok finetune {params.model:q} {input.table:q} {params.options:q} -o {params.folder:q} "
        "--resume --restart-if-changed "
        "--device {params.device} --threads {params.cpu_threads} > {log:q} 2>&1"


rule report_downstream:
    input:
        labelled_results(),
    output:
        figure=report(
            f"{RESULTS}/figures/downstream/downstream.svg",
            caption="../report/downstream.rst",
            category="6 Labelled sequences",
            labels={"figure": "labels that are predicted"},
        ),
        table=f"{RESULTS}/figures/downstream/downstream.tsv",
        summary=f"{RESULTS}/figures/downstream/downstream.json",
    log:
        f"{RESULTS}/logs/report_downstream.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_downstream.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        names=labelled_result_names(),
        folder=subpath(output.summary, parent=True),
    shell:
        "genotok report downstream {params.names:q} -o {params.folder:q} > {log:q} 2>&1"
