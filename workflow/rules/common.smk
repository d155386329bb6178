"""Configuration, tables, and the functions that the rules share."""

import csv
import fcntl
import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

# Where this workflow lies, which is not where the Snakefile of a workflow lies that uses it as a module.
WORKFLOW = Path(
    workflow.current_basedir.get_path_or_uri(secret_free=True)
).parent.parent
SCHEMAS = WORKFLOW / "workflow" / "schemas"

# Snakemake's own complaint prints the schema and the configuration, a thousand lines of them.
complaints = [
    ".".join(map(str, error.path)) + ": " * bool(error.path) + error.message
    for error in Draft202012Validator(
        yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text())
    ).iter_errors(config)
]
if complaints:
    raise WorkflowError(
        "the configuration is wrong; docs/configuration.md lists every key:",
        *complaints,
    )
validate(config, str(SCHEMAS / "config.schema.yaml"))  # fills in the defaults

# Rules call `genotok`: that of the rule's conda environment, else that beside this Python.
os.environ.update(
    PATH=os.pathsep.join([os.getenv("PATH", ""), os.path.dirname(sys.executable)]),
    GENOTOK_SOURCE=str(WORKFLOW),
)
# Jobs on other machines say by which command they came about, too.
os.environ.setdefault("GENOTOK_COMMAND", shlex.join(sys.argv))

RESULTS = config["results"].rstrip("/")
TOKENIZER = config["tokenize"]["tokenizer"]
LETTER_TOKENIZERS = (
    "nucleotide",
    "rna",
    "protein",
    "biological",
    "byte",
    "hyenadna",
)
ENTROPY = config.get("entropy_model", {})
LABELLED = {}
for labelled in config["downstream"]:
    if labelled["name"] in LABELLED:
        raise WorkflowError(
            f"downstream: the name {labelled['name']!r} stands there twice"
        )
    LABELLED[labelled["name"]] = labelled
COMPARISON = config.get("comparison", {})
# The shards that the model reads.
READ_SHARDS = f"{RESULTS}/{'entropies' if ENTROPY else 'shards'}"

if ENTROPY and TOKENIZER not in LETTER_TOKENIZERS:
    raise WorkflowError(
        f"entropy_model: needs a token a letter, and tokenize.tokenizer is {TOKENIZER!r}"
    )


def find(path):
    """A file of the configuration: relative to the working directory, or to the workflow."""
    return (
        path
        if Path(path).exists() or not (WORKFLOW / path).exists()
        else str(WORKFLOW / path)
    )


def read_table(path, schema):
    """The rows of a table as its schema wants them, empty cells as their defaults."""
    try:
        lines = Path(find(path)).read_text(encoding="utf-8-sig").split("\n")
        lines = [re.sub(r"(^|\s)#.*", "", line) for line in lines]
        table = [
            [cell.strip() for cell in cells]
            for cells in csv.reader(lines, "excel-tab", strict=True)
            if any(cell.strip() for cell in cells)
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise WorkflowError(
            f"{path}: the table of the configuration cannot be read: {error}"
        )
    schema = yaml.safe_load((SCHEMAS / schema).read_text())
    header, *table = table or [[]]
    while header and not header[-1]:
        header.pop()
    for number, column in enumerate(header):
        if column not in schema["properties"]:
            raise WorkflowError(
                f"{path}: {column!r} is no column of this table; they are separated by tabs and called {', '.join(schema['properties'])}"
            )
        if column in header[:number]:
            raise WorkflowError(f"{path}: the column {column!r} stands there twice")
    defaults = {
        key: about["default"]
        for key, about in schema["properties"].items()
        if "default" in about
    }
    rows = []
    for number, cells in enumerate(table, 1):
        if any(cells[len(header) :]):
            raise WorkflowError(
                f"{path}: row {number}: has more cells than there are columns ({len(header)})"
            )
        row = defaults | {key: cell for key, cell in zip(header, cells) if cell}
        for error in Draft202012Validator(schema).iter_errors(row):
            key = "".join(f"column {key!r}: " for key in error.path)
            raise WorkflowError(f"{path}: row {number}: {key}{error.message}")
        rows.append(row)
    return rows


def by_key(path, rows, column, key_of):
    """The rows of a table by a key that no two of them may share."""
    found = {}
    for number, row in enumerate(rows, 1):
        key = key_of(row)
        if key in found:
            raise WorkflowError(
                f"{path}: row {number}: {key!r} stands in the column {column!r} twice"
            )
        found[key] = row
    return found


def is_on_hub(model):
    """Whether a model of the table is `owner/name`; else it is a folder, perhaps one that is still to be made."""
    named = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@.*)?", model.rstrip("/"))
    return bool(named and not Path(find(model)).is_dir())


def model_label(row):
    """What files of a set of variants call its model: `trained`, a folder's name, or a name on the Hub."""
    model = row["model"].rstrip("/")
    name = model if is_on_hub(model) else Path(model).name
    return re.sub(r"[^A-Za-z0-9_.-]+", "--", name)


def score_set(row):
    """What files of a set of variants are called: its name, and behind a dot its model unless that is trained here."""
    label = model_label(row)
    return row["name"] if label == "trained" else f"{row['name']}.{label}"


GENOMES = by_key(
    config["genomes"],
    read_table(config["genomes"], "genomes.schema.yaml"),
    "genome",
    lambda row: row["genome"],
)
if not GENOMES:
    raise WorkflowError(f"{config['genomes']}: the table of genomes has no rows")
VARIANTS = (
    by_key(
        config["variants"],
        read_table(config["variants"], "variants.schema.yaml"),
        "name",
        score_set,
    )
    if config["variants"]
    else {}
)

for number, row in enumerate(GENOMES.values(), 1):
    if not row["format"] and row["alphabet"] != "dna":
        raise WorkflowError(
            f"{config['genomes']}: row {number}: column 'alphabet': is {row['alphabet']}, and the column 'format' is empty, which means a genome"
        )
    if row["format"] and row["sha256"]:
        raise WorkflowError(
            f"{config['genomes']}: row {number}: column 'sha256': is checked of genomes alone, and this is {row['format']}"
        )

for number, row in enumerate(VARIANTS.values(), 1):
    if row["model"] != "trained" and model_label(row) in ("", "trained"):
        raise WorkflowError(
            f"{config['variants']}: row {number}: column 'model': files cannot be called by the folder {row['model']!r}; give it another name"
        )
    if row["truth"] and row["label"]:
        raise WorkflowError(
            f"{config['variants']}: row {number}: columns 'truth' and 'label': give one of the two"
        )
    if row["genome"] in GENOMES and GENOMES[row["genome"]]["format"]:
        raise WorkflowError(
            f"{config['variants']}: row {number}: column 'genome': {row['genome']!r} is no genome, but {GENOMES[row['genome']]['format']}"
        )
    if row["genome"] not in GENOMES:
        raise WorkflowError(
            f"{config['variants']}: row {number}: column 'genome': {row['genome']!r} is not in {config['genomes']}"
        )


wildcard_constraints:
    genome="[A-Za-z0-9_.-]+",
    set="[A-Za-z0-9_.-]+",
    name="[A-Za-z0-9_.-]+",
    model="[A-Za-z0-9_.-]+",
    labelled="[A-Za-z0-9_.-]+",
    place="[A-Za-z0-9_.-]+",


scattergather:
    pieces=config["score"]["pieces"],


def hold_working_directory():
    """Keep a second run out of this directory for as long as this process lives.

    Snakemake's own lock is a file, which stays behind a process that was killed; the system takes this one back
    whatever ends the process, so that the next run can start at once. The profiles switch the other one off.
    """
    global held_directory
    held_directory = os.open(".snakemake", os.O_RDONLY)
    try:
        fcntl.flock(held_directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            "another Snakemake is at work in this directory; wait for its end, or stop it first"
        )
    except OSError as error:
        print(
            f"this file system cannot keep a second run out of the directory: {error.strerror}",
            file=sys.stderr,
        )


def scaled(amount):
    """Memory or time of a job that is asked for anew, and for more, each time that an attempt has failed."""
    return lambda wildcards, attempt: amount * attempt


def trained_genomes():
    """The genomes that are tokenised."""
    return [name for name, row in GENOMES.items() if row["split"] != "none"]


def shards_with(split, shards=READ_SHARDS):
    """The manifest of shards, once the table of genomes gives something to a split."""
    rows = [GENOMES[name] for name in trained_genomes()]
    if not any(row["split"] == split or row.get(split) for row in rows):
        raise WorkflowError(
            f"{config['genomes']}: nothing is in the split {split!r}, which this target needs; write it in the column 'split' of a genome"
            + (
                f" or contigs of one in the column {split!r}"
                if split != "train"
                else ""
            )
        )
    return f"{shards}/manifest.json"


def is_remote(source):
    """Whether a genome has to be downloaded: an address, or the name of an assembly that is no file here.

    Anything else is a file, so that Snakemake names one that is missing before it starts.
    """
    named = re.fullmatch(r"(ncbi|ucsc|ensembl):.*|\w+([.]\d+)?", source)
    return "://" in source or bool(named and not Path(find(source)).is_file())


def genome_source(wildcards):
    """The local file that a genome is made of: the download, or the file that the table names."""
    source = GENOMES[wildcards.genome]["source"]
    return (
        f"{RESULTS}/downloads/{wildcards.genome}" if is_remote(source) else find(source)
    )


def any_of(names):
    """A pattern for one of these names, or for none when there are none."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def source(wildcards):
    """Where a genome comes from."""
    return GENOMES[wildcards.genome]["source"]


def source_sha256(wildcards):
    """The SHA-256 that the source of a genome must have."""
    return GENOMES[wildcards.genome]["sha256"]


def fetch_options(wildcards):
    """The checksum of a genome's source as an option of `genotok fetch`."""
    digest = GENOMES[wildcards.genome]["sha256"]
    return f"--sha256 {digest}" if digest else ""


def split_options(wildcards):
    """Which contigs of a genome go to which split, as options of `genotok tokenize`."""
    row = GENOMES[wildcards.genome]
    named = [("--valid", name) for name in row["valid"].split(",") if name.strip()]
    named += [("--test", name) for name in row["test"].split(",") if name.strip()]
    return ["--rest", row["split"]] + [word.strip() for pair in named for word in pair]


def tokenize_options():
    """The section `tokenize` of the configuration as options.

    Shards hold letters, so that those of `nucleotide` serve every tokenizer of several letters.
    """
    tokenizer = TOKENIZER if TOKENIZER in LETTER_TOKENIZERS else "nucleotide"
    return [
        word
        for key, value in (config["tokenize"] | {"tokenizer": tokenizer}).items()
        if key
        != "deduplicate"  # between all genomes, when their shards are put together
        for word in (f"--{key.replace('_', '-')}", str(value))
    ]


def tokenized_files(wildcards):
    """What shards are made of: a genome that was made ready, or a source as it is; none for one on the network."""
    row = GENOMES[wildcards.genome]
    if not row["format"]:
        return [f"{RESULTS}/genomes/{wildcards.genome}.fa.gz"]
    return [] if "://" in row["source"] else [find(row["source"])]


def tokenized_source(wildcards):
    """The same as `genotok tokenize` is told of it."""
    return (tokenized_files(wildcards) or [GENOMES[wildcards.genome]["source"]])[0]


def source_options(wildcards):
    """How a source is read, as options of `genotok tokenize`."""
    row = GENOMES[wildcards.genome]
    keys = ["sequence_column", "min_quality", "mask_quality", "feature"]
    # A genome is of the tokenizer's alphabet, unless that has several.
    if row["format"] or TOKENIZER == "biological":
        keys += ["format", "alphabet"]
    named = [(f"--{key.replace('_', '-')}", row[key]) for key in keys if row[key]]
    return ["--name", wildcards.genome] + [word for pair in named for word in pair]


def window_files(wildcards):
    """The files of intervals that the windows of a genome keep to."""
    row = GENOMES[wildcards.genome]
    keys = ("include", "exclude", "regions")
    return {key: find(row[key]) for key in keys if row[key]}


def window_file_options(wildcards):
    """The same as options of `genotok tokenize`."""
    return [
        word
        for key, path in window_files(wildcards).items()
        for word in (f"--{key}", path)
    ]


def tokenizer_file():
    """The file of the model's tokenizer, where it has one: learned from the shards, or the user's."""
    if isinstance(TOKENIZER, dict):
        return [f"{RESULTS}/tokenizer.json"]
    return [find(TOKENIZER)] if TOKENIZER.endswith(".json") else []


def model_setting(model):
    """A model as `genotok train` takes it, with the tokenizer of the section `tokenize`."""
    is_file = isinstance(model, str) and model.endswith(".json")
    model = find(model) if is_file else model
    wanted = (tokenizer_file() or [TOKENIZER])[0]
    if wanted == "nucleotide":
        return model
    values = model
    if isinstance(model, str):
        preset = WORKFLOW / "genotok" / "models" / "presets" / f"{model}.json"
        values = read_json(model if is_file else preset)
    elif values.get("tokenizer", wanted) != wanted:
        raise WorkflowError(
            f"model.tokenizer: is {values['tokenizer']!r}, and tokenize.tokenizer is {TOKENIZER!r}"
        )
    if values.get("tokenizer") == wanted:
        return model
    # The size of another vocabulary means nothing here.
    return {k: v for k, v in values.items() if k != "vocab_size"} | {
        "tokenizer": wanted
    }


def read_json(path):
    """The object in a JSON file of the configuration."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{path}: cannot be read as a model: {error}")


def model_to_train():
    """The model of the configuration, which one that only compares may leave out."""
    if "model" not in config:
        raise WorkflowError(
            "model: is left out, and this target trains it; name a preset or a JSON file, or run compare_tokenizers"
        )
    return config["model"]


def train_settings(wildcards):
    """The settings of `genotok train` as JSON."""
    model, settings = model_setting(model_to_train()), dict(config["train"])
    if ENTROPY:
        settings["entropy_model"] = f"{RESULTS}/entropy_model"
    for path in published_weights():
        settings["main_network"] = {**settings["main_network"], "ntv2": path}
    return json.dumps(
        {"shards": READ_SHARDS, "model": model, **settings},
        sort_keys=True,
    )


def entropy_train_settings():
    """The settings of `genotok entropy train` as JSON."""
    model = model_setting(ENTROPY["model"])
    return json.dumps(
        {"shards": f"{RESULTS}/shards", "model": model, **ENTROPY["train"]},
        sort_keys=True,
    )


def training_provenance():
    """All settings on which the trained model depends, so that the same settings have the same hash everywhere."""
    model = model_to_train()
    is_file = isinstance(model, str) and model.endswith(".json")
    return {key: config.get(key) for key in ("tokenize", "train", "entropy_model")} | {
        "genomes": {name: GENOMES[name] for name in trained_genomes()},
        "model": read_json(find(model)) if is_file else model,
    }


def scoring_provenance(name):
    """The same for the scores of a set of variants."""
    row = VARIANTS[name]
    settings = {
        key: value
        for key, value in config["score"].items()
        if key not in ("pieces", "exports", "batch_size")
    }
    return {
        "genome": GENOMES[row["genome"]],
        "model": (
            settings_hash(training_provenance())
            if model_label(row) == "trained"
            else row["model"]
        ),
        "score": settings,
        "vcf": row["vcf"],
    }


def settings_hash(settings):
    """The SHA-256 of settings as JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def training_hash(wildcards):
    """What the trained model carries."""
    return settings_hash(training_provenance())


def scoring_hash(wildcards):
    """What the scored VCF of a set carries."""
    return settings_hash(scoring_provenance(wildcards.set))


def provenance_settings(wildcards):
    """The configuration, and what the hashes that models and VCFs carry stand for, as JSON."""
    parts = {f"scores/{name}": scoring_provenance(name) for name in VARIANTS}
    parts["model"] = training_provenance()
    return json.dumps(
        {
            "config": config,
            "config_sha256": settings_hash(config),
            "provenance": {
                name: {"sha256": settings_hash(settings), "settings": settings}
                for name, settings in parts.items()
            },
        },
        sort_keys=True,
    )


def provenance_inputs():
    """All that the results are made of: tables, genomes, and every file that the tables and the configuration name."""
    wanted = config["report"]
    sections = [
        wanted.get(name, {}) for name in ("tokens", "saturation", "attribution")
    ]
    given = [config["genomes"], config["variants"]]
    given += [row[key] for row in VARIANTS.values() for key in ("vcf", "table", "gff")]
    given += [
        row[key]
        for row in GENOMES.values()
        for key in ("include", "exclude", "regions")
    ]
    given += [row[key] for row in LABELLED.values() for key in ("train", "test")]
    given += [section.get("gff") for section in sections]
    given += wanted.get("tokens", {}).get("places", [])
    given += [wanted.get("motifs", {}).get("database")]
    given += [
        name
        for name in (config.get("model"), ENTROPY.get("model"), TOKENIZER)
        if isinstance(name, str) and name.endswith(".json")
    ]
    models = [row["model"] for row in VARIANTS.values() if row["model"] != "trained"]
    models += [row["model"] for row in LABELLED.values() if row["model"]]
    weights = [
        str(Path(find(model)) / name)
        for model in models
        for name in ("config.json", "model.safetensors")
    ]
    genomes = [
        path
        for name, row in GENOMES.items()
        for path in (
            [find(row["source"])]
            if row["format"]
            else [f"{RESULTS}/genomes/{name}.fa.gz"]
        )
        if "://" not in path
    ]
    # In the order in which they were named, each once.
    return list(
        dict.fromkeys(
            [find(path) for path in given if path]
            + genomes
            + published_weights()
            + [path for path in weights if Path(path).is_file()]
        )
    )


def entropy_model_files():
    """The model whose entropies the model cuts by, where the configuration has one."""
    names = ("config.json", "model.safetensors") if ENTROPY else ()
    return [f"{RESULTS}/entropy_model/{name}" for name in names]


def published_weights():
    """The weights that the main network begins with, where the configuration names some."""
    published = config["train"].get("main_network")
    return [find(published["ntv2"])] if published else []


def train_gpus(wildcards=None):
    """GPUs of the training job: one where the configuration asks for it."""
    return int(config["train"]["device"].startswith("cuda"))


def entropy_gpus(wildcards=None):
    """The same for the entropy model."""
    return int(ENTROPY["train"]["device"].startswith("cuda"))


def variant_file(wildcards):
    """The VCF of a set of variants."""
    return find(VARIANTS[wildcards.set]["vcf"])


def variant_genome(wildcards):
    """The FASTA that a set of variants lies on."""
    return f"{RESULTS}/genomes/{VARIANTS[wildcards.set]['genome']}.fa.gz"


def is_trained_here(wildcards):
    """Whether a set of variants is scored with the model that this workflow trains."""
    return model_label(VARIANTS[wildcards.set]) == "trained"


def scoring_model(wildcards):
    """The model of a set of variants: a folder, or a name on the Hugging Face Hub."""
    return (
        f"{RESULTS}/model"
        if is_trained_here(wildcards)
        else find(VARIANTS[wildcards.set]["model"])
    )


def scoring_model_files(wildcards):
    """The files of the model of a set of variants, none for one on the Hub."""
    if is_on_hub(VARIANTS[wildcards.set]["model"]):
        return []
    folder = Path(scoring_model(wildcards))
    return [str(folder / name) for name in ("config.json", "model.safetensors")]


def split_context():
    """Letters around a piece of a VCF whose records are neighbours on haplotypes: two windows."""
    return 2 * config["score"]["window"] if "haplotypes" in config["score"] else 0


def score_options():
    """The section `score` of the configuration as options of `genotok score`."""
    settings = config["score"]
    words = ["--fields", ",".join(settings["fields"])] if settings["fields"] else []
    if "haplotypes" in settings:
        words += ["--unphased", settings["unphased"]]
        words += ["--haplotypes", settings["haplotypes"]]
    return words + region_score_options()


def region_score_options():
    """Those of them that hold without a VCF as well."""
    settings, words = config["score"], []
    if "share_prefixes" in settings:
        words.append(f"--{'' if settings['share_prefixes'] else 'no-'}share-prefixes")
    for key in ("batch_size", "horizon", "masked"):
        if key in settings:
            words += [f"--{key.replace('_', '-')}", str(settings[key])]
    return words


def truth_files(wildcards):
    """What a comparison of a set of variants with the truth reads besides its scores."""
    row = VARIANTS[wildcards.set]
    files = {key: find(row[key]) for key in ("table", "gff") if row[key]}
    return files | (
        {"reference": variant_genome(wildcards)} if row["label"] or row["gff"] else {}
    )


def truth_options(wildcards):
    """The truth about a set of variants as options of `genotok report variants`."""
    row = VARIANTS[wildcards.set]
    named = {
        key: row[key]
        for key in ("truth", "label", "positive", "negative", "consequence")
        if row[key]
    }
    return [
        word
        for key, value in (named | truth_files(wildcards)).items()
        for word in (f"--{key}", value)
    ]


def sets_with(*keys):
    """The sets of variants whose rows have all these keys, and of truth and label no other."""
    return [
        name
        for name, row in VARIANTS.items()
        if {key for key in ("truth", "label") if row[key]} == set(keys)
    ]


def exported_variants():
    """The exports of the scores of every set that the configuration asks for."""
    endings = {
        "traitgym": "traitgym/{}/features/{}.parquet",
        "cadd": "cadd/{}/{}.tsv.gz",
    }
    return [
        f"{RESULTS}/{endings[kind].format(row['name'], model_label(row))}"
        for kind in config["score"]["exports"]
        for row in VARIANTS.values()
    ]


def exported_set(wildcards):
    """The scored VCF that an export is made of."""
    ending = "" if wildcards.model == "trained" else f".{wildcards.model}"
    return f"{RESULTS}/scores/{wildcards.name}{ending}.vcf.gz"


def scored_variants():
    """The scored VCF of every set."""
    return [f"{RESULTS}/scores/{name}.vcf.gz" for name in VARIANTS]


def region_genome():
    """The FASTA in which the region of the report lies."""
    genome = config["report"]["region"].partition("/")[0]
    if genome and genome not in GENOMES:
        raise WorkflowError(
            f"report.region: the genome {genome!r} is not in {config['genomes']}"
        )
    return f"{RESULTS}/genomes/{genome}.fa.gz"


def region():
    """CONTIG:START-END of the region of the report."""
    return config["report"]["region"].partition("/")[2]


def region_annotation():
    """The GFF3 of the genome in which the region lies, where the configuration names one."""
    settings = config["report"]
    genome = settings["region"].partition("/")[0]
    sections = (
        settings.get(name) or {} for name in ("tokens", "saturation", "attribution")
    )
    return [
        find(section["gff"])
        for section in sections
        if section.get("gff") and section["genome"] == genome
    ][:1]


def studied():
    """The settings of the report on chunks, or an empty mapping where there is none."""
    settings = config["report"].get("tokens") or {}
    if settings and settings["genome"] not in GENOMES:
        raise WorkflowError(
            f"report.tokens.genome: {settings['genome']!r} is not in {config['genomes']}"
        )
    return settings


def studied_files(wildcards):
    """The genome whose chunks are studied, and its annotation."""
    settings = studied()
    files = {"fasta": f"{RESULTS}/genomes/{settings['genome']}.fa.gz"}
    if settings.get("gff"):
        files["gff"] = find(settings["gff"])
    return files | {"places": [find(path) for path in settings.get("places", [])]}


def studied_region_options():
    """The regions and the window with which chunks are read."""
    options = ["--window", config["tokenize"]["window"]]
    for part in studied().get("regions", []):
        options += ["--region", part]
    return options


def study_options():
    """What `genotok report tokens` is told besides its files."""
    return [*studied_region_options(), "--sites", studied().get("sites", 256)]


def annotation_options(wildcards, input):
    """The annotation and the places among the inputs as options.

    Functions of inputs say nothing else: Snakemake does not see when what they return changes with the configuration.
    """
    options = ["--gff", input.gff] if "gff" in input.keys() else []
    places = input.get("places", [])
    return options + [word for path in places for word in ("--places", path)]


def saturated():
    """The settings of the pictures of every variant, or an empty mapping where there are none."""
    settings = config["report"].get("saturation") or {}
    if settings and settings["genome"] not in GENOMES:
        raise WorkflowError(
            f"report.saturation.genome: {settings['genome']!r} is not in {config['genomes']}"
        )
    return settings


def saturated_regions():
    """What files of each region are called -> the region."""
    regions = saturated().get("regions", [])
    found = {re.sub(r"[^A-Za-z0-9_.-]+", "_", region): region for region in regions}
    if len(found) < len(regions):
        raise WorkflowError(
            "report.saturation.regions: two of them would have files of the same name"
        )
    return found


def saturated_files(wildcards):
    """The genome of a picture of every variant, and its annotation."""
    settings = saturated()
    files = {"fasta": f"{RESULTS}/genomes/{settings['genome']}.fa.gz"}
    return files | ({"gff": find(settings["gff"])} if settings.get("gff") else {})


def saturated_options(wildcards, input):
    """What `genotok report saturation` is told of the annotation."""
    return (
        ["--gff", input.gff, "--reference", input.fasta]
        if "gff" in input.keys()
        else []
    )


def comparison_settings():
    """The settings of `genotok compare plan` as JSON; what the plan decides for each arm is left out of `train`."""
    decided = ("seed", "target_chunk_length")
    settings = {key: value for key, value in COMPARISON.items() if key != "variants"}
    settings |= {
        "shards": f"{RESULTS}/shards",
        "tokenizers": f"{RESULTS}/comparison",
        "train": {k: v for k, v in config["train"].items() if k not in decided},
        "evaluate_batch_size": config["evaluate"]["batch_size"],
    }
    files = compared_files(None)
    if "variants" in COMPARISON:
        kept = {k: v for k, v in COMPARISON["variants"].items() if k != "genome"}
        settings["variants"] = kept | {
            "vcf": files["vcf"],
            "reference": files["reference"],
        }
    if "probe" in COMPARISON:
        settings["probe"] = COMPARISON["probe"] | {"table": files["table"]}
    return json.dumps(settings, sort_keys=True)


def compared_vocabularies():
    """The byte pairs that arms of the comparison need."""
    found = [re.fullmatch("bpe_([0-9]+)", name) for name in COMPARISON["arms"]]
    return [f"{RESULTS}/comparison/bpe_{size[1]}.json" for size in found if size]


def compared_files(wildcards):
    """What arms of the comparison are measured on besides the shards."""
    files = {}
    if "variants" in COMPARISON:
        genome = COMPARISON["variants"]["genome"]
        if genome not in GENOMES:
            raise WorkflowError(
                f"comparison.variants.genome: {genome!r} is not in {config['genomes']}"
            )
        files["vcf"] = find(COMPARISON["variants"]["vcf"])
        files["reference"] = f"{RESULTS}/genomes/{genome}.fa.gz"
    if "probe" in COMPARISON:
        files["table"] = find(COMPARISON["probe"]["table"])
    return files


def attributed():
    """The regions whose bases are attributed, by the name of their folder."""
    settings = config["report"].get("attribution") or {}
    if settings and settings["genome"] not in GENOMES:
        raise WorkflowError(
            f"report.attribution.genome: {settings['genome']!r} is not in {config['genomes']}"
        )
    names = {}
    for part in settings.get("regions", []):
        contig, _, span = part.replace(",", "").rpartition(":")
        name = re.sub(r"[^A-Za-z0-9._-]", "_", contig).lstrip(".") + f"_{span}"
        if name in names:
            raise WorkflowError(
                f"report.attribution.regions: {part} would be written to the folder of {names[name]}"
            )
        names[name] = part
    return names


def attributes_by(method):
    """Whether a method is among those that the configuration asks for."""
    return method in config["report"]["attribution"]["methods"]


def attributed_files(wildcards):
    """The genome of these, and its annotation."""
    settings = config["report"]["attribution"]
    files = {"fasta": f"{RESULTS}/genomes/{settings['genome']}.fa.gz"}
    return files | ({"gff": find(settings["gff"])} if settings.get("gff") else {})


def attribution_options(wildcards):
    """What `genotok attribute` is told about a region besides its files."""
    settings = config["report"]["attribution"]
    words = ["--region", attributed()[wildcards.region]]
    words += ["--method", ",".join(settings["methods"])]
    if "variant" in settings:
        words += ["--target", "allele", "--variant", settings["variant"]]
    for key in (
        "window",
        "strands",
        "boundaries",
        "baseline",
        "steps",
        "batch_size",
        "random_draws",
    ):
        if key in settings:
            words += [f"--{key.replace('_', '-')}", settings[key]]
    return words


def motifs_are_sought():
    """Whether motifs are sought in what bases contribute."""
    if "motifs" not in config["report"]:
        return False
    if not attributed():
        raise WorkflowError(
            "report.motifs: there are no contributions to seek motifs in; name regions in report.attribution"
        )
    return True


def motif_options():
    """What `genotok motifs` is told besides its files."""
    settings = config["report"]["motifs"]
    keys = ("min_seqlets", "min_length", "max_length", "false_share", "likeness")
    return [
        word
        for key in keys
        if key in settings
        for word in (f"--{key.replace('_', '-')}", settings[key])
    ]


def known_motifs():
    """The file of known motifs, if there is one."""
    database = config["report"]["motifs"].get("database")
    return [find(database)] if database else []


def labelled_tables(wildcards):
    """The tables of a set of labelled sequences."""
    row = LABELLED[wildcards.labelled]
    return {
        key: find(row[column])
        for key, column in (("table", "train"), ("test", "test"))
        if row[column]
    }


def labelled_model(wildcards):
    """The folder of the model that reads a set of labelled sequences."""
    return find(LABELLED[wildcards.labelled]["model"]) or f"{RESULTS}/model"


def labelled_model_files(wildcards):
    """The files of that model."""
    names = ("config.json", "model.safetensors")
    return [f"{labelled_model(wildcards)}/{name}" for name in names]


def labelled_options(wildcards, verb):
    """A set of labelled sequences as options of `genotok probe` or `genotok finetune`."""
    row = LABELLED[wildcards.labelled]
    test = labelled_tables(wildcards).get("test")
    keys = ("label", "sequence", "kind", "max_length", "seed", "draws")
    keys += {"probe": ("layer", "pool", "kmers"), "finetune": ("epochs",)}[verb]
    named = {key: row[key] for key in keys if key in row}
    named |= {"test": test} if test else {"test_fraction": row["test_fraction"]}
    options = [
        word
        for key, value in named.items()
        for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    if verb == "probe":
        return options + ["--kmers-both-strands"] * row["kmers_both_strands"]
    settings = [("batch_size", row["batch_size"]), *row["settings"].items()]
    options += ["--class-weights"] * row["class_weights"]
    return options + [
        word
        for key, value in settings
        for word in ("--set", f"{key}={json.dumps(value)}")
    ]


def labelled_result_names():
    """NAME=FILE of every result that the configuration asks for."""
    files = {"probe": "probe.json", "finetune": "finetune/test_metrics.json"}
    return [
        f"{name}={RESULTS}/downstream/{name}/{files[method]}"
        for name, row in LABELLED.items()
        for method in row["methods"]
    ]


def labelled_results():
    """The files of these."""
    return [name.partition("=")[2] for name in labelled_result_names()]
