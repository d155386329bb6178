"""What the results page shows of each kind of report: a headline, a section, and lines of provenance."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genotok.report import names
from genotok.report.attribution_section import attribution_provenance, attribution_section
from genotok.report.labelled_section import downstream_headline, downstream_provenance, downstream_section
from genotok.report.markup import Columns, figure, heading, paragraph, table
from genotok.report.motif_section import motifs_headline, motifs_provenance, motifs_section
from genotok.report.names import (
    VARIANT_PREDICTORS,
    agreement_groups,
    predictor_label,
    signed,
)
from genotok.report.saturation_section import saturation_provenance, saturation_section

MOST_CONTIGS = 50
ADAPTIVE_NOTE = (
    "Counts of words that learn from these very contigs while they read them, as a compressor does, need {:.4f} bits "
    "per base. They are no rival of a model frozen before it saw the contigs, but they say how much a contig "
    "tells of itself; a model that reads long windows can learn to use it."
)
SPLITS = {"train": "last training batch", "valid": "validation contigs"}

Summary = dict[str, Any]
Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Kind:
    """One kind of report.

    Attributes:
        summary: the JSON file by which a folder is known to hold it.
        title: of the section; `{folder}` stands for the folder's name.
        section: gives the section's HTML.
        provenance: gives lines of (what, which).
        headline: gives the main result as a sentence, empty where there is none.
    """

    summary: str
    title: str
    section: Callable[[Path, Summary], list[str]]
    provenance: Callable[[Path, Summary], Lines]
    headline: Callable[[Path, Summary], str] = lambda folder, summary: ""


def _training_section(folder: Path, summary: Summary) -> list[str]:
    rows = [(name, *summary[split].values()) for split, name in SPLITS.items() if split in summary]
    (key,) = next(summary[split] for split in SPLITS if split in summary)
    columns = {f"After {summary['steps']:,} steps": None, names.TRAINING_CURVES[key]: ".4f"}
    return [figure(folder, names.TRAINING_FIGURE), table(columns, rows)]


def _training_provenance(folder: Path, summary: Summary) -> Lines:
    model = summary["model"]
    shown = {"Layout": "layout", "Widths": "d_model", "Tokenizer": "tokenizer"}
    if isinstance(model.get("tokenizer"), dict):
        model = model | {"tokenizer": model["tokenizer"].get("type")}
    rows = [(name, json.dumps(model[key]).strip('"')) for name, key in shown.items() if key in model]
    return [*rows, ("Training steps", f"{summary['steps']:,}")]


def _evaluation_headline(folder: Path, metrics: Summary) -> str:
    bits = metrics["model"]["bits_per_base"]
    baselines = {name: part["bits_per_base"] for name, part in metrics["baselines"].items()}
    if bits is None or not baselines or None in baselines.values():
        return ""
    best = min(baselines, key=baselines.__getitem__)
    return (
        f"The model needs {bits:.4f} bits per base on the split {metrics['split']}; "
        f"the best baseline ({predictor_label(best)}) needs {baselines[best]:.4f}."
    )


def _evaluation_section(folder: Path, metrics: Summary) -> list[str]:
    parts = [figure(folder, names.BITS_FIGURE), _bits_table(metrics)]
    if metrics["adaptive"]["bits_per_base"] is not None:
        parts.append(paragraph(ADAPTIVE_NOTE.format(metrics["adaptive"]["bits_per_base"])))
    parts += [heading("Contigs", 3), _contig_table(metrics)]
    rest = len(metrics["contigs"]) - MOST_CONTIGS
    if rest > 0:
        note = f"{rest:,} shorter contigs are left out here; they are in {names.BITS_FIGURE}.tsv."
        parts.append(paragraph(note, "note"))
    parts.append(heading("Compression", 3))
    if metrics["stages"]:
        stages = [(stage["stage"], stage["chunks"], stage["mean_length"]) for stage in metrics["stages"]]
        parts.append(table({"Stage": "d", "Chunks": ",", "Bases per chunk": ".2f"}, stages))
    return [*parts, figure(folder, names.LENGTHS_FIGURE)]


def _bits_table(metrics: Summary) -> str:
    model = metrics["model"]["bits_per_base"]
    rows = []
    for name, part in {**metrics["baselines"], "model": metrics["model"]}.items():
        bits = part["bits_per_base"]
        more = None if name == "model" or None in (model, bits) else bits - model
        rows.append((predictor_label(name), bits, more, part["nucleotides"], part["ambiguous_left_out"]))
    columns: Columns = {"Predictor": None, "Bits per base": ".4f", "More than the model": "+.4f"}
    return table(columns | {"Bases": ",", "Ambiguous, left out": ","}, rows, own={len(rows) - 1})


def _contig_table(metrics: Summary) -> str:
    """The longest contigs."""
    baselines, rows = list(metrics["baselines"]), []
    for contig in sorted(metrics["contigs"], key=lambda contig: -contig["nucleotides"])[:MOST_CONTIGS]:
        name = contig["genome"], contig["contig"], contig["nucleotides"]
        rows.append((*name, *(contig["baselines"][key] for key in baselines), contig["bits_per_base"]))
    columns: Columns = {"Genome": None, "Contig": None, "Bases": ","}
    return table(columns | {predictor_label(name): ".4f" for name in [*baselines, "model"]}, rows)


def _evaluation_provenance(folder: Path, metrics: Summary) -> Lines:
    return [
        ("Model, SHA-256", metrics["model_sha256"]),
        ("Parameters", f"{metrics['parameters']:,}"),
        ("Evaluation", f"split {metrics['split']}, windows of {metrics['window']:,} bases"),
    ]


def _chunks_section(folder: Path, summary: Summary) -> list[str]:
    rows = [(stage["stage"], stage["chunks"], stage["mean_length"]) for stage in summary["stages"]]
    columns: Columns = {"Stage": "d", "Chunks in the region": ",", "Bases per chunk": ".2f"}
    parts = [heading(summary["region"], 3), figure(folder, names.CHUNKS_FIGURE)]
    return parts + ([table(columns, rows)] if rows else [])


def _chunks_provenance(folder: Path, summary: Summary) -> Lines:
    return [("Region", f"{summary['region']}, windows of {summary['window']:,} bases")]


def _variants_headline(folder: Path, summary: Summary) -> str:
    scored, statistics = summary["status"].get("ok", 0), summary["statistics"] or {}
    headline = f"{folder.name}: {scored:,} of {summary['alleles']:,} alleles have a score."
    agreement = [
        f"{VARIANT_PREDICTORS[name]} {signed(values['spearman'])}"
        for name, values in statistics.get("predictors", {}).items()
        if values["spearman"] is not None
    ]
    truth = f" Spearman's correlation with {summary['fields']['truth']}: {'; '.join(agreement)}."
    return headline + (truth if agreement else "") + _labels_headline(summary)


def _labels_headline(summary: Summary) -> str:
    areas = [
        f"{VARIANT_PREDICTORS[name]} {values['auroc']:.3f}"
        for name, values in (summary.get("labels") or {}).get("predictors", {}).items()
        if values["auroc"] is not None
    ]
    return f" AUROC for {summary['fields']['label']}: {'; '.join(areas)}." if areas else ""


def _variants_section(folder: Path, summary: Summary) -> list[str]:
    statuses = [(name, count, 100 * count / summary["alleles"]) for name, count in summary["status"].items()]
    parts = [table({"Status": None, "Alleles": ",", "%": ".2f"}, statuses)]
    if summary["statistics"]:
        parts += [figure(folder, names.AGREEMENT_FIGURE), _agreement_table(summary["statistics"])]
        parts.append(figure(folder, names.TRUTH_FIGURE))
    if summary.get("labels"):
        parts += [figure(folder, names.LABELS_FIGURE), _labels_table(summary["labels"])]
    return [*parts, figure(folder, names.DISTRIBUTION_FIGURE)]


def _labels_table(labels: Summary) -> str:
    columns: Columns = {"Variants": None, "Predictor": None, "n": ",", "Harmful": ","}
    keys = ["n", "positives"]
    for name, key in (("AUROC", "auroc"), ("AUPRC", "auprc"), ("AUPRC by contig", "auprc_by_chrom")):
        columns |= {name: ".3f", f"{name}, 95 % from": ".3f", f"{name}, to": ".3f"}
        keys += [key, f"{key}_low", f"{key}_high"]
    rows, model_rows = [], set()
    for group, predictors in agreement_groups(labels).items():
        model_rows.add(len(rows))
        for name, values in predictors.items():
            shown = group.replace("_", " ") if name == "model" else ""
            rows.append((shown, VARIANT_PREDICTORS[name], *(values[key] for key in keys)))
    return table(columns, rows, own=model_rows)


def _sets_section(folder: Path, summary: Summary) -> list[str]:
    keys = ("set", "measure", "predictor", "n", "value", "low", "high")
    rows = [
        tuple(VARIANT_PREDICTORS[row[key]] if key == "predictor" else row[key] for key in keys)
        for row in summary["rows"]
    ]
    columns: Columns = {"Set": None, "Measure": None, "Predictor": None, "n": ","}
    columns |= dict.fromkeys(["Value", "95 % from", "95 % to"], "+.3f")
    own = {number for number, row in enumerate(summary["rows"]) if row["predictor"] == "model"}
    return [figure(folder, names.SETS_FIGURE), table(columns, rows, own=own)]


def _agreement_table(statistics: Summary) -> str:
    columns: Columns = {"Variants": None, "Predictor": None, "n": ","}
    columns |= dict.fromkeys(["Spearman", "95 % from", "95 % to"], "+.3f")
    keys = ["n", "spearman", "ci_low", "ci_high"]
    if "auroc" in statistics["predictors"]["model"]:
        columns |= {"Harmful": ",", "AUROC": ".3f", "Average precision": ".3f"}
        keys += ["harmful", "auroc", "average_precision"]
    rows, model_rows = [], set()
    for group, predictors in agreement_groups(statistics).items():
        model_rows.add(len(rows))
        for name, values in predictors.items():
            shown = group.replace("_", " ") if name == "model" else ""
            rows.append((shown, VARIANT_PREDICTORS[name], *(values[key] for key in keys)))
    return table(columns, rows, own=model_rows)


def _variants_provenance(folder: Path, summary: Summary) -> Lines:
    return [(f"{folder.name}: {key.replace('_', ' ')}", text) for key, text in summary["scoring"].items()]


def _tokens_section(folder: Path, summary: Summary) -> list[str]:
    stages = [(s["stage"], s["chunks"], s["mean_length"], s["words"]) for s in summary["stages"]]
    columns: Columns = {"Stage": "d", "Chunks": ",", "Bases per chunk": ".2f", "Different words": ","}
    parts = [table(columns, stages)] if stages else []
    parts += [figure(folder, names.ENRICHMENT_FIGURE), figure(folder, names.WORDS_FIGURE)]
    parts += [figure(folder, names.STAGES_FIGURE), figure(folder, names.TRACK_FIGURE)]
    parts += [figure(folder, names.STABILITY_FIGURE)]
    changes = [
        (row["stage"], row["sites"], row["changed_by_substitution"], row["bases_to_recover"])
        for row in summary["stability"]
    ]
    columns = {"Stage": "d", "Sites": ",", "Boundaries changed by one substitution": ".2f"}
    columns |= {"Bases until a later reading agrees (median)": ".0f"}
    return parts + ([table(columns, changes)] if changes else [])


def _tokens_provenance(folder: Path, summary: Summary) -> Lines:
    regions = ", ".join(summary["regions"]) + (" and more" if summary["region_count"] > 5 else "")
    return [
        ("Chunks were studied in", f"{regions} ({summary['bases']:,} bases)"),
        ("Control of boundaries", f"{summary['rotations']:,} rotations"),
    ]


KINDS = (
    Kind(
        summary=names.TRAINING_SUMMARY,
        title="Training",
        section=_training_section,
        provenance=_training_provenance,
    ),
    Kind(
        summary=names.EVALUATION_SUMMARY,
        title="Bits per base",
        section=_evaluation_section,
        provenance=_evaluation_provenance,
        headline=_evaluation_headline,
    ),
    Kind(
        summary=names.CHUNKS_SUMMARY,
        title="Learned chunks",
        section=_chunks_section,
        provenance=_chunks_provenance,
    ),
    Kind(
        summary=names.TOKENS_SUMMARY,
        title="What the chunks follow",
        section=_tokens_section,
        provenance=_tokens_provenance,
    ),
    Kind(
        summary=names.ATTRIBUTION_SUMMARY,
        title="Contributions of bases: {folder}",
        section=attribution_section,
        provenance=attribution_provenance,
    ),
    Kind(
        summary=names.MOTIFS_SUMMARY,
        title="Motifs",
        section=motifs_section,
        provenance=motifs_provenance,
        headline=motifs_headline,
    ),
    Kind(
        summary=names.SETS_SUMMARY,
        title="Sets of variants",
        section=_sets_section,
        provenance=lambda folder, summary: [("Sets of variants", ", ".join(summary["sets"]))],
    ),
    Kind(
        summary=names.VARIANTS_SUMMARY,
        title="Variants: {folder}",
        section=_variants_section,
        provenance=_variants_provenance,
        headline=_variants_headline,
    ),
    Kind(
        summary=names.SATURATION_SUMMARY,
        title="Every variant of one base: {folder}",
        section=saturation_section,
        provenance=saturation_provenance,
    ),
    Kind(
        summary=names.DOWNSTREAM_SUMMARY,
        title="Labelled sequences",
        section=downstream_section,
        provenance=downstream_provenance,
        headline=downstream_headline,
    ),
)
