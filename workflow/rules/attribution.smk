"""What each base of some regions contributes, a job and a page for each region.

REQUIRED INPUTS: <results>/genomes/, <results>/model/
OUTPUTS: <results>/figures/attribution/
"""


rule attribute:
    input:
        unpack(attributed_files),
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        page=report(
            f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attribution.html",
            caption="../report/attribution_page.rst",
            category="5 Contributions of bases",
            subcategory="{region}",
            labels={"figure": "page of the region"},
        ),
        logo=report(
            f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attribution.svg",
            caption="../report/attribution.rst",
            category="5 Contributions of bases",
            subcategory="{region}",
            labels={"figure": "contributions"},
        ),
        changes=(
            report(
                f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attribution_changes.svg",
                caption="../report/attribution_changes.rst",
                category="5 Contributions of bases",
                subcategory="{region}",
                labels={"figure": "mutagenesis"},
            )
            if attributes_by("mutagenesis")
            else []
        ),
        attention=(
            report(
                f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attention_maps.svg",
                caption="../report/attention_maps.rst",
                category="5 Contributions of bases",
                subcategory="{region}",
                labels={"figure": "attention"},
            )
            if attributes_by("attention")
            else []
        ),
        arrays=f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attribution.npz",
        summary=f"{RESULTS}/figures/attribution/{{region}}/attributions.json",
    log:
        f"{RESULTS}/logs/attribute/{{region}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/attribute/{{region}}.tsv"
    wildcard_constraints:
        region=any_of(attributed()),
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(3000),
        runtime=scaled(60),
        gpu=train_gpus(),
    params:
        model=subpath(input.config, parent=True),
        folder=subpath(output.summary, parent=True),
        options=attribution_options,
        annotation=annotation_options,
        device=config["train"]["device"],
    shell:
        "genotok attribute {input.fasta:q} -m {params.model:q} {params.options:q} {params.annotation:q} "
        "--device {params.device} --threads {threads} -o {params.folder:q} > {log:q} 2>&1"
