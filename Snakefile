from snakemake.utils import min_version, validate

min_version("9.14")


# The embedded demo, unless another configuration is named: its keys must not leak into one that leaves them out.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/tokenize.smk"


if ENTROPY:

    include: "workflow/rules/entropies.smk"


include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/score.smk"


if LABELLED:

    include: "workflow/rules/downstream.smk"


include: "workflow/rules/report.smk"


if studied():

    include: "workflow/rules/tokens.smk"


if saturated():

    include: "workflow/rules/saturation.smk"


if COMPARISON:

    include: "workflow/rules/compare.smk"


if attributed():

    include: "workflow/rules/attribution.smk"


if motifs_are_sought():

    include: "workflow/rules/motifs.smk"


report: "workflow/report/workflow.rst"


onstart:
    hold_working_directory()


rule all:
    """The results page, its provenance, and what else the configuration asks for."""
    default_target: True
    input:
        f"{RESULTS}/index.html",
        f"{RESULTS}/provenance.json",
        exported_variants(),
        [f"{RESULTS}/trackhub"] if studied().get("trackhub") else [],


if LABELLED:

    rule downstream:
        """Labelled sequences, probed and fine-tuned."""
        input:
            f"{RESULTS}/figures/downstream/downstream.json",


if COMPARISON:

    rule compare_tokenizers:
        """Tokenizers, compared on equal work."""
        input:
            f"{RESULTS}/figures/comparison/comparison.json",


rule scores:
    """Every set of variants, scored, and nothing but that."""
    input:
        scored_variants(),
        exported_variants(),
