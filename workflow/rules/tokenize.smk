"""Shards: each genome cut into windows of token ids.

REQUIRED INPUTS: <results>/genomes/{genome}.fa.gz, or a source with a format as it is; files of intervals where the table
of genomes names some
OUTPUTS: <results>/shards/{genome}/ and the manifest of all, <results>/shards/manifest.json; <results>/tokenizer.json
where the configuration has byte pairs learned.
"""


localrules:
    merge_shards,


rule tokenize_genome:
    input:
        unpack(window_files),
        source=tokenized_files,
    output:
        directory(f"{RESULTS}/shards/{{genome}}"),
    log:
        f"{RESULTS}/logs/tokenize_genome/{{genome}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tokenize_genome/{{genome}}.tsv"
    wildcard_constraints:
        genome=any_of(GENOMES),
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(120),
    params:
        splits=split_options,
        options=tokenize_options(),
        files=window_file_options,
        source=tokenized_source,
        reading=source_options,
    shell:
        "genotok tokenize {params.source:q} -o {output:q} {params.reading:q} {params.splits:q} {params.options:q} {params.files:q} > {log:q} 2>&1"


rule merge_shards:
    input:
        expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
    output:
        f"{RESULTS}/shards/manifest.json",
    log:
        f"{RESULTS}/logs/merge_shards.log",
    benchmark:
        f"{RESULTS}/benchmarks/merge_shards.tsv"
    conda:
        "../../envs/genotok.yaml"
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        folder=subpath(output[0], parent=True),
        deduplicate=config["tokenize"]["deduplicate"],
    shell:
        "genotok shards merge {input:q} -o {params.folder:q} --deduplicate {params.deduplicate} > {log:q} 2>&1"


if isinstance(TOKENIZER, dict):

    rule train_tokenizer:
        input:
            manifest=f"{RESULTS}/shards/manifest.json",
            shards=expand(f"{RESULTS}/shards/{{genome}}", genome=trained_genomes()),
        output:
            f"{RESULTS}/tokenizer.json",
        log:
            f"{RESULTS}/logs/train_tokenizer.log",
        benchmark:
            f"{RESULTS}/benchmarks/train_tokenizer.tsv"
        conda:
            "../../envs/genotok.yaml"
        resources:
            mem_mb=scaled(8000),
            runtime=scaled(240),
        params:
            shards=subpath(input.manifest, parent=True),
            size=TOKENIZER["bpe"],
        shell:
            "genotok bpe {params.shards:q} -o {output:q} --vocab-size {params.size} > {log:q} 2>&1"
