from snakemake.utils import min_version, validate

min_version("9.14")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/tokenize.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


onstart:
    hold_working_directory()


rule all:
    default_target: True
    input:
        f"{RESULTS}/index.html",


rule scores:
    input:
        scored_variants(),
