"""Text with its chunks in colour, for a terminal and for a browser."""

from collections.abc import Sequence
from html import escape

from rich.console import Console
from rich.text import Text

# Of Okabe and Ito; neighbours differ in hue and in lightness, so that anyone can tell them apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def chunks_of(letters: str, starts: Sequence[bool]) -> list[str]:
    """The letters cut in front of each that begins a chunk.

    Args:
        letters: L letters, one a token.
        starts: L flags; the first letter begins a chunk in any case.
    """
    chunks: list[str] = []
    for letter, begins in zip(letters, starts, strict=True):
        if begins or not chunks:
            chunks.append(letter)
        else:
            chunks[-1] += letter
    return chunks


def print_coloured(chunks: Sequence[str], console: Console | None = None) -> None:
    """Print chunks in changing colours; where there are no colours, with `|` between them."""
    console = console or Console(highlight=False)
    if console.color_system is None:
        console.print("|".join(chunks), markup=False, soft_wrap=True)
        return
    text = Text()
    for place, chunk in enumerate(chunks):
        text.append(chunk, style=f"bold {COLOURS[place % len(COLOURS)]}")
    console.print(text, soft_wrap=True)


def coloured_html(title: str, lines: Sequence[Sequence[str]]) -> str:
    """A page in HTML with one line of chunks after the other; hovering over a chunk tells its length.

    Args:
        title: of the page.
        lines: the chunks of each line.
    """
    rows = ["".join(_span(place, chunk) for place, chunk in enumerate(chunks)) for chunks in lines]
    styles = " ".join(f".c{i} {{ background: {colour}; }}" for i, colour in enumerate(COLOURS))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        "<style>body { font: 16px/1.8 monospace; margin: 2em; } p { overflow-wrap: anywhere; } "
        f"span {{ color: white; padding: 2px 1px; border-radius: 3px; margin-right: 1px; }} {styles}</style>\n"
        f"<h1>{escape(title)}</h1>\n" + "".join(f"<p>{row}</p>\n" for row in rows) + "</html>\n"
    )


def _span(place: int, chunk: str) -> str:
    return f'<span class="c{place % len(COLOURS)}" title="{len(chunk)} letters">{escape(chunk)}</span>'
