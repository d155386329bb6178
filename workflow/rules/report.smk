"""Figures with their data, and the results page.

REQUIRED INPUTS: <results>/model/, <results>/evaluation/metrics.json, <results>/scores/
OUTPUTS: <results>/figures/, <results>/index.html and <results>/provenance.json
"""


rule report_training:
    input:
        metrics=f"{RESULTS}/model/metrics.jsonl",
        config=f"{RESULTS}/model/config.json",
    output:
        figure=report(
            f"{RESULTS}/figures/training/training.svg",
            caption="../report/training.rst",
            category="1 Training",
            labels={"figure": "training curves"},
        ),
        table=f"{RESULTS}/figures/training/training.tsv",
        summary=f"{RESULTS}/figures/training/training.json",
    log:
        f"{RESULTS}/logs/report_training.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_training.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        run=subpath(input.metrics, parent=True),
        folder=subpath(output.summary, parent=True),
    shell:
        "genotok report training {params.run:q} -o {params.folder:q} > {log:q} 2>&1"


rule report_evaluation:
    input:
        f"{RESULTS}/evaluation/metrics.json",
    output:
        bits=report(
            f"{RESULTS}/figures/evaluation/bits_per_base.svg",
            caption="../report/bits_per_base.rst",
            category="2 Held-out sequence",
            labels={"figure": "bits per base"},
        ),
        lengths=report(
            f"{RESULTS}/figures/evaluation/chunk_lengths.svg",
            caption="../report/chunk_lengths.rst",
            category="3 Learned chunks",
            labels={"figure": "chunk lengths"},
        ),
        tables=multiext(
            f"{RESULTS}/figures/evaluation/", "bits_per_base.tsv", "chunk_lengths.tsv"
        ),
        summary=f"{RESULTS}/figures/evaluation/evaluation.json",
    log:
        f"{RESULTS}/logs/report_evaluation.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_evaluation.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folder=subpath(output.summary, parent=True),
    shell:
        "genotok report evaluation {input:q} -o {params.folder:q} > {log:q} 2>&1"


rule report_chunks:
    input:
        fasta=region_genome(),
        gff=region_annotation(),
        config=f"{RESULTS}/model/config.json",
        weights=f"{RESULTS}/model/model.safetensors",
    output:
        figure=report(
            f"{RESULTS}/figures/chunks/chunks.svg",
            caption="../report/chunks.rst",
            category="3 Learned chunks",
            labels={"figure": "chunks along a region"},
        ),
        table=f"{RESULTS}/figures/chunks/chunks.tsv",
        summary=f"{RESULTS}/figures/chunks/chunks.json",
        bed=f"{RESULTS}/figures/chunks/chunks.bed",
    log:
        f"{RESULTS}/logs/report_chunks.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_chunks.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        model=subpath(input.config, parent=True),
        folder=subpath(output.summary, parent=True),
        region=region(),
        genes=lambda wildcards, input: [f"--gff={path}" for path in input.gff],
        window=config["tokenize"]["window"],
    shell:
        "(genotok report chunks {input.fasta:q} -m {params.model:q} --region {params.region:q} "
        "{params.genes:q} --window {params.window} -o {params.folder:q} && "
        "genotok tokens {input.fasta:q} -m {params.model:q} --region {params.region:q} "
        "--window {params.window} -o {output.bed:q}) > {log:q} 2>&1"


rule report_variants:
    input:
        unpack(truth_files),
        vcf=f"{RESULTS}/scores/{{set}}.vcf.gz",
        scores=f"{RESULTS}/scores/{{set}}.parquet",
    output:
        distribution=report(
            f"{RESULTS}/figures/variants/{{set}}/llr_distribution.svg",
            caption="../report/llr_distribution.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "distribution"},
        ),
        tables=f"{RESULTS}/figures/variants/{{set}}/llr_distribution.tsv",
        summary=f"{RESULTS}/figures/variants/{{set}}/variant_effect.json",
    log:
        f"{RESULTS}/logs/report_variants/{{set}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_variants/{{set}}.tsv"
    wildcard_constraints:
        set=any_of(sets_with()),
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(30),
    params:
        folder=subpath(output.summary, parent=True),
        truth=truth_options,
    shell:
        "genotok report variants {input.scores:q} {input.vcf:q} {params.truth:q} "
        "-o {params.folder:q} > {log:q} 2>&1"


use rule report_variants as report_variants_with_truth with:
    output:
        distribution=report(
            f"{RESULTS}/figures/variants/{{set}}/llr_distribution.svg",
            caption="../report/llr_distribution.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "distribution"},
        ),
        agreement=report(
            f"{RESULTS}/figures/variants/{{set}}/variant_effect.svg",
            caption="../report/variant_effect.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "agreement with measured effects"},
        ),
        scatter=report(
            f"{RESULTS}/figures/variants/{{set}}/llr_against_truth.svg",
            caption="../report/llr_against_truth.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "scores against measured effects"},
        ),
        tables=multiext(
            f"{RESULTS}/figures/variants/{{set}}/",
            "llr_distribution.tsv",
            "variant_effect.tsv",
            "llr_against_truth.tsv",
        ),
        summary=f"{RESULTS}/figures/variants/{{set}}/variant_effect.json",
    wildcard_constraints:
        set=any_of(sets_with("truth")),


use rule report_variants as report_variants_with_labels with:
    output:
        distribution=report(
            f"{RESULTS}/figures/variants/{{set}}/llr_distribution.svg",
            caption="../report/llr_distribution.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "distribution"},
        ),
        areas=report(
            f"{RESULTS}/figures/variants/{{set}}/label_areas.svg",
            caption="../report/label_areas.rst",
            category="4 Variant scores",
            subcategory="{set}",
            labels={"figure": "harmful told from harmless"},
        ),
        tables=multiext(
            f"{RESULTS}/figures/variants/{{set}}/",
            "llr_distribution.tsv",
            "label_areas.tsv",
        ),
        summary=f"{RESULTS}/figures/variants/{{set}}/variant_effect.json",
    wildcard_constraints:
        set=any_of(sets_with("label")),


rule report_score_sets:
    input:
        expand(
            f"{RESULTS}/figures/variants/{{set}}/variant_effect.json",
            set=sets_with("truth") + sets_with("label"),
        ),
    output:
        figure=report(
            f"{RESULTS}/figures/score_sets/score_sets.svg",
            caption="../report/score_sets.rst",
            category="4 Variant scores",
            labels={"figure": "sets and models beside each other"},
        ),
        table=f"{RESULTS}/figures/score_sets/score_sets.tsv",
        summary=f"{RESULTS}/figures/score_sets/score_sets.json",
    log:
        f"{RESULTS}/logs/report_score_sets.log",
    benchmark:
        f"{RESULTS}/benchmarks/report_score_sets.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folders=lambda wildcards, input: [os.path.dirname(path) for path in input],
        folder=subpath(output.summary, parent=True),
    shell:
        "genotok report score-sets {params.folders:q} -o {params.folder:q} > {log:q} 2>&1"


rule provenance:
    input:
        provenance_inputs(),
    output:
        f"{RESULTS}/provenance.json",
    log:
        f"{RESULTS}/logs/provenance.log",
    benchmark:
        f"{RESULTS}/benchmarks/provenance.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(60),
    params:
        settings=provenance_settings,
    shell:
        "genotok report provenance {input:q} -o {output:q} --settings - <<< {params.settings:q} > {log:q} 2>&1"


rule results_page:
    input:
        training=f"{RESULTS}/figures/training/training.json",
        evaluation=f"{RESULTS}/figures/evaluation/evaluation.json",
        chunks=(
            [f"{RESULTS}/figures/chunks/chunks.json"]
            if config["report"]["region"]
            else []
        ),
        tokens=[f"{RESULTS}/figures/tokens/tokens.json"] if studied() else [],
        attributions=expand(
            f"{RESULTS}/figures/attribution/{{region}}/attributions.json",
            region=attributed(),
        ),
        motifs=(
            [f"{RESULTS}/figures/motifs/motifs.json"] if motifs_are_sought() else []
        ),
        score_sets=(
            [f"{RESULTS}/figures/score_sets/score_sets.json"]
            if len(sets_with("truth") + sets_with("label")) > 1
            else []
        ),
        variants=expand(
            f"{RESULTS}/figures/variants/{{set}}/variant_effect.json", set=VARIANTS
        ),
        saturation=expand(
            f"{RESULTS}/figures/saturation/{{place}}/saturation.json",
            place=saturated_regions(),
        ),
        downstream=(
            [f"{RESULTS}/figures/downstream/downstream.json"] if LABELLED else []
        ),
    output:
        report(
            f"{RESULTS}/index.html",
            caption="../report/page.rst",
            category="0 Results page",
            labels={"figure": "everything on one page"},
        ),
    log:
        f"{RESULTS}/logs/results_page.log",
    benchmark:
        f"{RESULTS}/benchmarks/results_page.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folders=lambda wildcards, input: [os.path.dirname(path) for path in input],
    shell:
        "genotok report page {params.folders:q} -o {output:q} > {log:q} 2>&1"
