"""Every variant of one base of the regions that the configuration names, scored and drawn.

REQUIRED INPUTS: <results>/genomes/, <results>/model/
OUTPUTS: <results>/saturation/{place}.vcf.gz, <results>/figures/saturation/{place}/
"""


rule score_saturation:
    input:
        unpack(saturated_files),
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        vcf=f"{RESULTS}/saturation/{{place}}.vcf.gz",
        index=f"{RESULTS}/saturation/{{place}}.vcf.gz.tbi",
    log:
        f"{RESULTS}/logs/score_saturation/{{place}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_saturation/{{place}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(240),
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        region=lambda wildcards: saturated_regions()[wildcards.place],
        window=config["score"]["window"],
        strands=config["score"]["strands"],
        device=config["train"]["device"],
        options=region_score_options(),
    shell:
        "genotok score --region {params.region:q} -r {input.fasta:q} -m {params.model:q} -o {output.vcf:q} "
        "--window {params.window} --strands {params.strands} --device {params.device} {params.options:q} "
        "--threads {threads} > {log:q} 2>&1"


rule report_saturation:
    input:
        unpack(saturated_files),
        vcf=f"{RESULTS}/saturation/{{place}}.vcf.gz",
    output:
        figure=report(
            f"{RESULTS}/figures/saturation/{{place}}/saturation.svg",
            caption="../report/saturation.rst",
            category="4 Variant scores",
            subcategory="every variant of {place}",
            labels={"figure": "every variant of one base"},
        ),
        groups=report(
            f"{RESULTS}/figures/saturation/{{place}}/saturation_groups.svg",
            caption="../report/saturation_groups.rst",
            category="4 Variant scores",
            subcategory="every variant of {place}",
            labels={"figure": "by codon position and consequence"},
        ),
        tables=multiext(
            f"{RESULTS}/figures/saturation/{{place}}/",
            "saturation.tsv",
            "saturation_groups.tsv",
        ),
        summary=f"{RESULTS}/figures/saturation/{{place}}/saturation.json",
    log:
        f"{RESULTS}/logs/report_saturation/{{place}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_saturation/{{place}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folder=subpath(output.summary, parent=True),
        annotation=saturated_options,
    shell:
        "genotok report saturation {input.vcf:q} {params.annotation:q} -o {params.folder:q} > {log:q} 2>&1"
