"""Pieces of HTML: tables, figures and sections. Everything that comes from a file is escaped."""

import base64
from collections.abc import Container, Sequence
from html import escape
from pathlib import Path
from typing import Any

from genotok.errors import InputError
from genotok.report.captions import CAPTIONS, TITLES

Columns = dict[str, str | None]
_OWN = ' class="own"'


def table(columns: Columns, rows: Sequence[Sequence[Any]], own: Container[int] = ()) -> str:
    """A table.

    Args:
        columns: name -> format of its numbers, which are set to the right, or None for a column of text.
        rows: one value a column; None is shown as a dash.
        own: indices of the rows that are set in bold.
    """
    formats = list(columns.values())
    names = zip(columns, formats, strict=True)
    head = "".join(f"<th{_side(form)}>{escape(name)}</th>" for name, form in names)
    lines = []
    for index, row in enumerate(rows):
        values = zip(row, formats, strict=True)
        cells = "".join(f"<td{_side(form)}>{_cell(value, form)}</td>" for value, form in values)
        lines.append(f"<tr{_OWN if index in own else ''}>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _side(form: str | None) -> str:
    return "" if form is None else ' class="number"'


def _cell(value: Any, form: str | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    if form is None:
        return escape(str(value))
    return format(value, form).replace("-", "\N{MINUS SIGN}")


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is a class of the page's style."""
    return f"<p{f' class={kind!r}' if kind else ''}>{escape(text)}</p>"


def heading(text: str, level: int, anchor: str = "") -> str:
    """A heading, with an anchor for links within the page where one is given."""
    return f"<h{level}{f' id={anchor!r}' if anchor else ''}>{escape(text)}</h{level}>"


def figure(folder: Path, name: str) -> str:
    """A figure inside the page, with its caption.

    Raises:
        InputError: the folder lacks the figure.
    """
    path = folder / f"{name}.svg"
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"{path}: cannot be read, though its summary is there: {error.strerror}") from error
    image = f'<img src="data:image/svg+xml;base64,{content}" alt="{escape(TITLES[name])}">'
    caption = f"{escape(CAPTIONS[name])} Data: <code>{name}.tsv</code>."
    return f"<figure>\n{image}\n<figcaption>{caption}</figcaption>\n</figure>"
