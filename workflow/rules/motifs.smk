"""Motifs in what bases contribute, in all regions together.

REQUIRED INPUTS: <results>/figures/attribution/
OUTPUTS: <results>/figures/motifs/
"""


rule motifs:
    input:
        database=known_motifs(),
        arrays=expand(
            f"{RESULTS}/figures/attribution/{{region}}/{{region}}/attribution.npz",
            region=attributed(),
        ),
    output:
        logos=report(
            f"{RESULTS}/figures/motifs/motif_logos.svg",
            caption="../report/motif_logos.rst",
            category="5 Contributions of bases",
            subcategory="motifs",
            labels={"figure": "motifs"},
        ),
        page=report(
            f"{RESULTS}/figures/motifs/index.html",
            caption="../report/motif_page.rst",
            category="5 Contributions of bases",
            subcategory="motifs",
            labels={"figure": "page of the motifs"},
        ),
        motifs=f"{RESULTS}/figures/motifs/motifs.meme",
        tables=multiext(
            f"{RESULTS}/figures/motifs/",
            "motifs.tsv",
            "matches.tsv",
            "motif_logos.tsv",
        ),
        seqlets=f"{RESULTS}/figures/motifs/seqlets.bed",
        summary=f"{RESULTS}/figures/motifs/motifs.json",
    log:
        f"{RESULTS}/logs/motifs.log",
    benchmark:
        f"{RESULTS}/benchmarks/motifs.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(60),
    params:
        folder=subpath(output.summary, parent=True),
        options=motif_options(),
        known=lambda wildcards, input: [f"--database={path}" for path in input.database],
    shell:
        "genotok motifs {input.arrays:q} {params.options:q} {params.known:q} -o {params.folder:q} > {log:q} 2>&1"
