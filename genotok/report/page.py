"""`genotok report page`: one self-contained HTML page with everything that a run found."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import genotok
from genotok.atomic import atomic_path
from genotok.errors import InputError
from genotok.report.json_files import read_json
from genotok.report.markup import heading, paragraph, table
from genotok.report.sections import KINDS, Kind, Summary


def write_page(folders: Sequence[Path], output: Path, title: str = "genotok results") -> None:
    """Write the results page.

    Everything is inside the page: it needs no other file and no network. Its numbers and figures are those of
    the folders; the same folders give the same bytes.

    Args:
        folders: where `report_training`, `report_evaluation`, `report_chunks` and `report_variants` wrote; one
            folder may hold several of them, and sets of variants have one each, whose name the page shows.
        output: the HTML file, e.g. `index.html`.
        title: of the page.

    Raises:
        InputError: a folder holds nothing to show, or a file in it is missing or damaged.
    """
    headlines, sections, contents = [], [], []
    provenance = [("genotok", genotok.__version__)]
    for number, (kind, folder, summary) in enumerate(_read_summaries([Path(folder) for folder in folders])):
        heading_text, anchor = kind.title.format(folder=folder.name), f"section-{number + 1}"
        sections += [heading(heading_text, 2, anchor), *kind.section(folder, summary)]
        contents.append((anchor, heading_text))
        headlines.append(kind.headline(folder, summary))
        provenance += kind.provenance(folder, summary)
    sections += [heading("Provenance", 2, "provenance")]
    sections += [f'<div class="wrapped">{table({"What": None, "Which": None}, provenance)}</div>']
    contents.append(("provenance", "Provenance"))
    page = fill_page(title, [headline for headline in headlines if headline], contents, sections)
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def fill_page(
    title: str, headlines: Sequence[str], contents: Sequence[tuple[str, str]], sections: Sequence[str]
) -> str:
    """A page of HTML that needs no other file.

    Args:
        title: of the page.
        headlines: sentences below it.
        contents: anchors of headings, and their texts.
        sections: HTML.
    """
    template = Template((files("genotok.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        version=escape(genotok.__version__),
        title=escape(title),
        headlines="\n".join(map(paragraph, headlines)),
        contents="\n".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in contents),
        sections="\n".join(sections),
    )


def _read_summaries(folders: list[Path]) -> list[tuple[Kind, Path, Summary]]:
    """What the folders hold, kind by kind in the order of the page."""
    for folder in folders:
        if not any((folder / kind.summary).is_file() for kind in KINDS):
            names = ", ".join(kind.summary for kind in KINDS)
            raise InputError(f"{folder}: holds none of {names}; let `genotok report` write into it first")
    return [
        (kind, folder, read_json(folder / kind.summary))
        for kind in KINDS
        for folder in folders
        if (folder / kind.summary).is_file()
    ]
