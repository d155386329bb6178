"""`genotok attribute`: what the bases of regions contribute, as tables, tracks, and a page for each region."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

import torch

from genotok.atomic import atomic_directory
from genotok.errors import InputError
from genotok.genomes.fasta import Reference
from genotok.genomes.regions import Region
from genotok.interpret.annotation_masks import Annotation
from genotok.interpret.attention_maps import NO_ATTENTION, mixer_kinds
from genotok.interpret.attribution import Attribution, AttributionSettings, Attributor
from genotok.interpret.attribution_files import (
    Tracks,
    attribution_table,
    changes_table,
    region_name,
    write_arrays,
    write_attention,
)
from genotok.interpret.chunks import RegionChunks, find_chunks
from genotok.progress import progress
from genotok.report.attribution_figures import (
    attention_figure,
    attention_table,
    changes_figure,
    contributions_figure,
)
from genotok.report.attribution_section import attribution_checks
from genotok.report.chunks import chunk_picture, genes_below
from genotok.report.json_files import write_json
from genotok.report.markup import figure, heading, table
from genotok.report.names import (
    ATTENTION_MAPS_FIGURE,
    ATTRIBUTION_FIGURE,
    ATTRIBUTION_PAGE,
    ATTRIBUTION_SUMMARY,
    CHANGES_FIGURE,
    CHUNKS_FIGURE,
)
from genotok.report.page import fill_page
from genotok.report.style import save_figure
from genotok.training.precision import choose_device
from genotok.variants.saturation import find_regions

LONGEST_REGION = 600  # bases on a page


def write_attributions(
    model_folder: Path,
    fasta: Path,
    out_folder: Path,
    settings: AttributionSettings,
    *,
    regions: Sequence[str] = (),
    bed: Path | None = None,
    gff: Path | None = None,
    device: str = "auto",
    threads: int = 2,
) -> None:
    """Attribute regions and write what is found; the folder is whole or absent.

    Writes `<method>.bw` of all regions and `attributions.json`, and of each region a folder `<contig>_<start>-<end>`
    with `attribution.npz`, `attention.npz` where there are maps, the figures with their data, and
    `attribution.html`, a page that needs no other file.

    Args:
        model_folder: holds config.json and model.safetensors.
        fasta: plain or BGZF.
        out_folder: takes the place of an earlier one.
        settings: what is attributed and how.
        regions: `CONTIG:START-END`, 1-based and closed; those that overlap or touch become one.
        bed: more of them.
        gff: GFF3, whose genes are drawn.
        device: `auto`, `cpu` or `cuda`.
        threads: on the CPU.

    Raises:
        InputError: a file or a region cannot be read, a region is longer than 600 bases, or the model lacks what
            the settings name.
    """
    if not regions and bed is None:
        raise InputError("attribute: name what is to be attributed, --region or --bed")
    torch.set_num_threads(threads)
    with Reference(fasta) as reference:
        wanted = find_regions(reference, regions, bed)
        for region in wanted:
            _check_length(region)
        annotation = None if gff is None else Annotation(reference.contigs, gff)
        attributor = Attributor(
            model_folder, reference, settings, device=choose_device(device), threads=threads
        )
        summaries: dict[str, dict[str, Any]] = {}
        bar = progress("attribute", sum(region.end - region.start for region in wanted), "bases")
        with atomic_directory(out_folder) as folder, bar as shown:
            with Tracks(folder, reference.contigs, settings.contributing) as tracks:
                for region in wanted:
                    name = region_name(region, summaries)
                    found = attributor.attribute(region)
                    tracks.add(found)
                    summaries[name] = _write_region(attributor, found, folder / name, annotation)
                    shown.advance(region.end - region.start, note=region.contig)
            write_json(_summary(attributor, summaries), folder / ATTRIBUTION_SUMMARY)


def _check_length(region: Region) -> None:
    contig, start, end = region
    if end - start > LONGEST_REGION:
        raise InputError(
            f"region {contig}:{start + 1}-{end}: has {end - start:,} bases, and a page shows at most "
            f"{LONGEST_REGION}; take {contig}:{start + 1}-{start + LONGEST_REGION}"
        )


def _write_region(
    attributor: Attributor, found: Attribution, folder: Path, annotation: Annotation | None
) -> dict[str, Any]:
    """Write the files of a region; returns its part of the summary."""
    folder.mkdir()
    region, figures, unit = found.region, [], attributor.target.unit
    chunks = _chunks(attributor, region)
    if found.contributions:
        write_arrays(found, folder / "attribution.npz")
        picture = contributions_figure(found, chunks, unit)
        save_figure(picture, attribution_table(found), folder, ATTRIBUTION_FIGURE)
        figures.append(ATTRIBUTION_FIGURE)
    if found.changes is not None:
        save_figure(changes_figure(found, unit), changes_table(found), folder, CHANGES_FIGURE)
        figures.append(CHANGES_FIGURE)
    if chunks is not None:
        genes = None if annotation is None else genes_below(annotation, attributor.reference, region)
        save_figure(*chunk_picture(chunks, genes), folder, CHUNKS_FIGURE)
        figures.append(CHUNKS_FIGURE)
    if "attention" in attributor.settings.methods:
        if found.attention:
            write_attention(found, folder / "attention.npz")
        without = NO_ATTENTION.format(mixers=" and ".join(mixer_kinds(attributor.model)))
        data = attention_table(found.attention, *region)
        save_figure(
            attention_figure(found.attention, *region[1:], without), data, folder, ATTENTION_MAPS_FIGURE
        )
        figures.append(ATTENTION_MAPS_FIGURE)
    about = _region_summary(found, figures)
    page = _page(attributor, found, folder, about)
    (folder / ATTRIBUTION_PAGE).write_text(page, encoding="utf-8")
    return about


def _chunks(attributor: Attributor, region: Region) -> RegionChunks | None:
    """Where chunks lie and how surprising the bases are, for a model with a likelihood."""
    if not {"lm", "mlm"} & set(attributor.model.config.tasks):
        return None
    window = max(attributor.target.window or 2 * (region.end - region.start), 2)
    settings = {"window": window, "batch_size": attributor.settings.batch_size, "precision": "fp32"}
    return find_chunks(attributor.model, attributor.reference, *region, **settings)


def _summary(attributor: Attributor, regions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    settings = attributor.settings
    return {
        "target": attributor.target.text,
        "methods": list(settings.methods),
        "window": attributor.target.window,
        "strands": settings.strands,
        "boundaries": settings.boundaries,
        "baseline": settings.baseline,
        "steps": settings.steps,
        "model": attributor.model.content_hash(),
        "regions": regions,
    }


def _region_summary(found: Attribution, figures: Sequence[str]) -> dict[str, Any]:
    contig, start, end = found.region
    summary: dict[str, Any] = {
        "region": f"{contig}:{start + 1}-{end}",
        "bases": int(found.one_hot.any(1).sum()),
        "figures": list(figures),
    }
    if found.completeness:
        complete = found.completeness
        summary["completeness"] = {
            "value": complete.value,
            "baseline": complete.baseline,
            "sum": complete.total,
            "gap": complete.gap,
            "relative_gap": complete.relative_gap,
        }
    summary["correlation_with_random_weights"] = {
        method: {
            name: [_number(pair[which]) for pair in pairs]
            for which, name in enumerate(("pearson", "spearman"))
        }
        for method, pairs in found.randomised.items()
    }
    return summary


def _number(value: float) -> float | None:
    return None if isnan(value) else value


def _page(attributor: Attributor, found: Attribution, folder: Path, about: dict[str, Any]) -> str:
    contig, start, end = found.region
    sections, contents = [], []
    titles = {
        ATTRIBUTION_FIGURE: "Contributions",
        CHANGES_FIGURE: "Mutagenesis",
        CHUNKS_FIGURE: "Chunks, surprisal and genes",
        ATTENTION_MAPS_FIGURE: "Attention",
    }
    for name in about["figures"]:
        sections += [heading(titles[name], 2, name), figure(folder, name)]
        contents.append((name, titles[name]))
        if name == ATTRIBUTION_FIGURE:
            sections += attribution_checks(about, attributor.settings.boundaries)
    sections += [heading("How it was made", 2, "settings"), _settings_table(attributor)]
    contents.append(("settings", "How it was made"))
    headlines = [f"Target: {found.target}.", f"{end - start:,} bases; coordinates are 1-based."]
    return fill_page(f"{contig}:{start + 1:,}-{end:,}", headlines, contents, sections)


def _settings_table(attributor: Attributor) -> str:
    settings = attributor.settings
    baseline = {"uniform": "the four letters in equal parts", "n": "the letter N"}.get(
        settings.baseline, f"{settings.shuffles} sequences with shuffled dinucleotides"
    )
    boundaries = {"held": "held as in the true sequence", "routed": "routed anew for each input"}
    rows = [
        ("Model", f"{attributor.folder.resolve().name} sha256:{attributor.model.content_hash()}"),
        ("Genome", f"{attributor.reference.path.name} sha256:{attributor.reference.digest}"),
        ("Methods", ", ".join(settings.methods)),
        (
            "Letters read",
            "the region alone" if attributor.target.window is None else f"{attributor.target.window:,}",
        ),
        ("Strands", settings.strands),
        ("Baseline", f"{baseline}; {settings.steps} steps"),
        ("Boundaries of chunks", f"{boundaries[settings.boundaries]}; mutagenesis always routes anew"),
    ]
    return f'<div class="wrapped">{table({"What": None, "Which": None}, rows)}</div>'
