"""Write docs/gallery.md, and its pictures from the demo's results into docs/images/.

snakemake --cores 2 && python docs/write_gallery.py results
"""

import shutil
import sys
import textwrap
from pathlib import Path

from genotok.report.captions import CAPTIONS, TITLES

REPOSITORY = Path(__file__).parents[1]
PAGE, IMAGES = REPOSITORY / "docs" / "gallery.md", REPOSITORY / "docs" / "images"
HEAD = """# Gallery
Pictures of the report that the embedded demo makes in minutes on two cores. This page and its pictures are written by
`snakemake --cores 2 && python docs/write_gallery.py results`; do not edit it.

The demo's model is small, has read 2.6 million bases of viruses, and never saw SARS-CoV-2, on which it is shown
here: the pictures show what there is to see, not how well such models can do. What they say so far stands in
[Learned tokens: what is known](learned_tokens.md). The demo looks for no motifs: [their page](motifs.md) shows some
that were planted, and the figure of twelve tokenizers compared stands on [its own](comparison.md#what-it-found). The
data of each figure lie beside it in the results as a table of the same name.
"""
# Sections, and in each the figures by their folders among the results.
SECTIONS = {
    "Learned chunks": {
        "chunks": "chunks",
        "tokens": "token_enrichment token_words token_stages token_track token_stability",
    },
    "Held-out sequence": {"training": "training", "evaluation": "bits_per_base chunk_lengths"},
    "Variant scores": {
        "saturation/*": "saturation saturation_groups",
        "variants/*": "llr_distribution variant_effect llr_against_truth",
    },
    "Contributions of bases": {"attribution/*/*": "attribution attribution_changes attention_maps"},
}
COMMANDS = {
    "training": "report training",
    "evaluation": "report evaluation",
    "chunks": "report chunks --gff",
    "tokens": "report tokens --gff",
    "saturation/*": "score --region, report saturation --gff",
    "variants/*": "report variants",
    "attribution/*/*": "attribute --gff",
}


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for title, folders in SECTIONS.items():
        parts.append(f"## {title}\n")
        for folder, names in folders.items():
            verbs = ", ".join(f"`genotok {verb}`" for verb in COMMANDS[folder].split(", "))
            for name in names.split():
                image = f"![{TITLES[name]}](images/{name}.svg)"
                caption = textwrap.fill(CAPTIONS[name], 118, break_on_hyphens=False)
                parts.append(f"### {TITLES[name]}\n{image}\n\n{caption}\n\nMade by {verbs}.\n")
    return "\n".join(parts)


def figures(results: Path) -> dict[str, Path]:
    """Each figure's name -> its file among the results.

    Raises:
        FileNotFoundError: the results lack one.
    """
    found = {}
    for folders in SECTIONS.values():
        for folder, names in folders.items():
            for name in names.split():
                files = sorted((results / "figures").glob(f"{folder}/{name}.svg"))
                if not files:
                    raise FileNotFoundError(f"{results}/figures/{folder}/{name}.svg: run snakemake first")
                found[name] = files[0]
    return found


if __name__ == "__main__":
    for name, path in figures(Path(sys.argv[1])).items():
        shutil.copyfile(path, IMAGES / f"{name}.svg")
    PAGE.write_text(page())
