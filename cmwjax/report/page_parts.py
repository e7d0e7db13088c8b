"""What pages are made of: escaped text, tables, drawings, pictures; and the page.

A page is one file that loads nothing: styles, drawings and pictures are in it. Colours
of drawings are those of the page, which has a light and a dark set of them.
"""

import base64
import html
import io
import re
import string
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmwjax import __version__
from cmwjax.report.plot_style import (
    CLEAN,
    CORRUPTED,
    FAINT,
    FAMILY_COLOURS,
    INK,
    METHOD_COLOURS,
    MUTED,
    RULE,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What the page calls the colours of figures.
_NAMED = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    FAINT: "faint",
    CLEAN: "clean",
    CORRUPTED: "wrong",
    METHOD_COLOURS["erm"]: "erm",
    METHOD_COLOURS["mw_net"]: "clean",
    METHOD_COLOURS["cmw_net"]: "accent",
    **{colour: f"family{k}" for k, colour in enumerate(FAMILY_COLOURS)},
}
COLOURS = {colour.lower(): f"var(--{name})" for colour, name in _NAMED.items()}
DASHES = {"-": "", "--": "5 3", ":": "1.5 3", "s": ""}  # of lines in legends; s: a box
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SMALL = 48  # pixels of an image that is shown without smoothing


class Key(NamedTuple):
    """An entry of a legend."""

    text: str
    colour: str
    line: str = "-"  # one of `DASHES`


def escaped(text: Any) -> str:
    """Anybody's text as it may stand in a page, in elements and in attributes."""
    # Bytes that are no text, as the name of a file may have, and control characters
    # have no place in a page.
    plain = str(text).encode("utf-8", "replace").decode()
    return html.escape(_CONTROL.sub("\ufffd", plain))


def count(number: float) -> str:
    """A whole number with separators."""
    return f"{number:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent, or a dash where there is none."""
    if share is None or not np.isfinite(share):
        return "–"
    return f"{100 * share:.{digits}f}\u00a0%"  # on one line


def paragraph(text: str, *, is_note: bool = False) -> str:
    """A paragraph of escaped text."""
    return f'<p class="note">{text}</p>' if is_note else f"<p>{text}</p>"


def section(name: str, heading: str, *parts: str) -> str:
    """A part of the page to which a link leads."""
    inside = "\n".join(filter(None, parts))
    return f'<section id="{name}">\n<h2>{escaped(heading)}</h2>\n{inside}\n</section>'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Numbers that stand out, each with what it is."""
    cells = (
        f'<div class="tile"><b>{escaped(number)}</b><span>{escaped(what)}</span></div>'
        for number, what in pairs
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    kind: str = "",
    is_escaped: bool = False,
) -> str:
    """A table that scrolls by itself where it is wider than the screen.

    Args:
      headings: of the columns.
      rows: their cells.
      kind: class of the table in the page's styles.
      is_escaped: whether cells are HTML already.
    """

    def say(cell: str) -> str:
        return cell if is_escaped else escaped(cell)

    head = "".join(f'<th scope="col">{escaped(text)}</th>' for text in headings)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{say(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def matrix(
    corner: str, names: Sequence[str], shares: NDArray[np.floating], sizes: Sequence
) -> str:
    """Shares `[C, C]` of each row in percent, on a ground as dark as they are large."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    lines = []
    for name, row, size in zip(names, shares, sizes, strict=True):
        cells = "".join(
            f'<td style="--part:{0.7 * share:.2f}">{_whole(share)}</td>'
            if share
            else "<td></td>"
            for share in row
        )
        label = f'<th scope="row">{escaped(name)}</th>'
        lines.append(f"<tr>{label}{cells}<td>{count(size)}</td></tr>")
    return (
        '<div class="scroll" tabindex="0"><table class="matrix">\n'
        f"<thead><tr><th>{escaped(corner)}</th>{head}"
        '<th scope="col">samples</th></tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _whole(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.005 else "&lt;1"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they stand for."""
    lines = (f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in pairs)
    return f"<dl>{''.join(lines)}</dl>"


def drawing(axes: "Axes", title: str, keys: Sequence[Key] = ()) -> str:
    """The figure of some axes, its title above and its legend below it.

    Args:
      axes: made in `plot_style.styled`; texts in it are the page's own.
      title: says what there is to see.
      keys: the legend.
    """
    entries = "".join(
        f"<li>{_sample(key)}{escaped(key.text)}</li>" for key in keys if key.text
    )
    legend = f'<ul class="legend">{entries}</ul>' if entries else ""
    return (
        f"<figure><figcaption>{escaped(title)}</figcaption>\n"
        f"{_svg(axes, title)}\n{legend}</figure>"
    )


def figures(drawings: Iterable[str]) -> str:
    """Drawings side by side where there is room."""
    return f'<div class="figures">\n{chr(10).join(drawings)}\n</div>'


def _sample(key: Key) -> str:
    colour = COLOURS.get(key.colour.lower(), key.colour)
    if key.line == "s":
        shape = f'<rect x="3" y="1" width="18" height="10" style="fill:{colour}"/>'
    else:
        dashes = DASHES[key.line]
        dash = f";stroke-dasharray:{dashes}" if dashes else ""
        style = f"stroke:{colour};stroke-width:2.5{dash}"
        shape = f'<line x1="0" y1="6" x2="24" y2="6" style="{style}"/>'
    return f'<svg viewBox="0 0 24 12" aria-hidden="true">{shape}</svg>'


def _svg(axes: "Axes", title: str) -> str:
    """A figure as SVG in the page's colours and font, the same text each time."""
    import matplotlib

    figure = axes.get_figure(root=True)
    assert figure is not None
    buffer = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": title}
    with matplotlib.rc_context(settings):
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.S)
    width, height = (72 * inches for inches in figure.get_size_inches())
    start = (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escaped(title)}">'
    )
    text = start + text[text.index(">") + 1 :]
    # Names that nothing refers to would stand in the page once for every drawing.
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    used = {name for pair in used for name in pair if name}
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r"#[0-9a-f]{6}", lambda m: COLOURS.get(m[0], m[0]), text)
    text = re.sub(r"font: ?(?:\w+ )?([\d.]+px) [^;\"]+", r"font-size: \1", text)
    return re.sub(r"\n\s*", "\n", text).strip()


def picture(pixels: NDArray[np.uint8], text: str) -> str:
    """An image uint8 `[h, w, 1 or 3]` in the page: small ones as they are."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    is_small = max(pixels.shape[:2]) <= SMALL
    kind, buffer = ("png", io.BytesIO()) if is_small else ("jpeg", io.BytesIO())
    image.save(buffer, kind, optimize=is_small, quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<img src="data:image/{kind};base64,{data}" alt="{escaped(text)}" '
        f'width="{width}" height="{height}">'
    )


def page(title: str, links: Iterable[tuple[str, str]], content: Iterable[str]) -> str:
    """The whole page.

    Args:
      title: its heading.
      links: place and text of what stands on top to jump to.
      content: HTML.
    """
    template = resources.files("cmwjax.report").joinpath("page.html").read_text("utf-8")
    anchors = (f'<a href="{escaped(at)}">{escaped(text)}</a>' for at, text in links)
    return string.Template(template).substitute(
        title=escaped(title),
        links="".join(anchors),
        content="\n".join(content),
        version=escaped(__version__),
    )
