"""Genomes: from anywhere to indexed BGZF FASTA.

REQUIRED INPUTS: the table of genomes.
OUTPUTS: <results>/genomes/{genome}.fa.gz with .fai and .gzi.
"""


# On a cluster only the login node may reach the network, so that downloads run there.
localrules:
    download_genome,
    download_unchecked_genome,


rule download_genome:
    output:
        temp(ensure(f"{RESULTS}/downloads/{{genome}}", sha256=source_sha256)),
    log:
        f"{RESULTS}/logs/download_genome/{{genome}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/download_genome/{{genome}}.tsv"
    wildcard_constraints:
        genome=any_of(name for name, row in GENOMES.items() if row["sha256"]),
    retries: 2
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        source=source,
        checksum=fetch_options,
    shell:
        "genotok fetch {params.source:q} --raw {params.checksum} -o {output:q} > {log:q} 2>&1"


use rule download_genome as download_unchecked_genome with:
    output:
        temp(ensure(f"{RESULTS}/downloads/{{genome}}", non_empty=True)),
    wildcard_constraints:
        genome=any_of(name for name, row in GENOMES.items() if not row["sha256"]),


rule prepare_genome:
    input:
        genome_source,
    output:
        fasta=ensure(f"{RESULTS}/genomes/{{genome}}.fa.gz", non_empty=True),
        fai=f"{RESULTS}/genomes/{{genome}}.fa.gz.fai",
        gzi=f"{RESULTS}/genomes/{{genome}}.fa.gz.gzi",
    log:
        f"{RESULTS}/logs/prepare_genome/{{genome}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_genome/{{genome}}.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(120),
    params:
        checksum=fetch_options,
    shell:
        "genotok fetch {input:q} {params.checksum} -o {output.fasta:q} > {log:q} 2>&1"
