"""A page as plain blocks, written as HTML or as Markdown: each statement is made once.

Everything that comes in is text and is escaped on the way out: answers of models may
hold markup. The HTML needs nothing beside itself: no script, style sheet or font.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Text of a kind: code, or a word that is coloured: better, worse, note, alarm."""

    text: str
    kind: str = ""


Inline = str | Text


@dataclass(frozen=True, slots=True)
class Heading:
    """A section's heading."""

    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph; an alarm is set apart."""

    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Inline]]


@dataclass(frozen=True, slots=True)
class Drawings:
    """Figures side by side; ``report.charts`` draws them and escapes their text.

    Markdown leaves them out: a table with the same figures always stands beside.
    """

    svgs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Fold:
    """Tables that open on a click."""

    summary: str
    blocks: Sequence[Table]


Block = Heading | Paragraph | Table | Drawings | Fold


def html_page(title: str, blocks: Sequence[Block]) -> str:
    """A whole page that opens from disk, in light and dark, on a phone too."""
    headings = [block for block in blocks if isinstance(block, Heading)]
    links = " ".join(
        f'<a href="#{anchor(h.text)}">{html.escape(h.text)}</a>' for h in headings
    )
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, links=links, body=body)


def markdown_page(title: str, blocks: Sequence[Block]) -> str:
    """The same page as Markdown."""
    parts = [f"# {_plain(title)}", *(_markdown(block) for block in blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def anchor(text: str) -> str:
    """A heading's name in links: ASCII letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f'<h2 id="{anchor(text)}">{html.escape(text)}</h2>'
        case Paragraph(text, kind):
            mark = f' class="{kind}"' if kind else ""
            return f"<p{mark}>{_lines(text)}</p>"
        case Table():
            return _html_table(block)
        case Drawings(svgs):
            return f'<div class="drawings">{"".join(svgs)}</div>'
        case Fold(summary, blocks):
            inner = "\n".join(_html(one) for one in blocks)
            name = html.escape(summary)
            return f"<details><summary>{name}</summary>\n{inner}\n</details>"


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.head)
    rows = []
    for first, *rest in table.rows:
        cells = "".join(f"<td>{_inline(cell)}</td>" for cell in rest)
        rows.append(f'<tr><th scope="row">{_inline(first)}</th>{cells}</tr>')
    body = "\n".join(rows)
    # a wide table scrolls by itself, by keyboard too, and never widens the page
    return (
        f'<div class="wide" tabindex="0" role="region" '
        f'aria-label="{html.escape(table.caption)}"><table>'
        f"<caption>{html.escape(table.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _inline(cell: Inline) -> str:
    if isinstance(cell, str):
        return _lines(cell)
    if cell.kind == "code":
        return f"<code>{html.escape(cell.text)}</code>"
    return f'<span class="{cell.kind}">{_lines(cell.text)}</span>'


def _lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Paragraph(text, kind):
            return f"**{_plain(text)}**" if kind == "alarm" else _plain(text)
        case Table(caption, head, rows):
            cells = [[_markdown_cell(cell) for cell in row] for row in rows]
            lines = markdown_table([_plain(name) for name in head], cells)
            return "\n".join([_plain(caption), "", *lines])
        case Drawings():
            return ""
        case Fold(summary, blocks):
            inner = [_markdown(one) for one in blocks]
            return "\n\n".join([f"### {_plain(summary)}", *inner])


def _markdown_cell(cell: Inline) -> str:
    if isinstance(cell, Text) and cell.kind == "code":
        # inside a table even code needs its bars escaped; a backtick would end it
        text = cell.text.replace("`", "'").replace("|", r"\|").replace("\n", " ")
        return f"`{text}`" if text else ""
    return _plain(cell.text if isinstance(cell, Text) else cell)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    text = html.escape(text, quote=False)
    text = re.sub(r"([\\`*_|~])", r"\\\1", text).replace("](", r"]\(")
    return re.sub(r"\r\n|\r|\n", "<br>", text)


_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --paper: #fff; --line: #d5dae1;
  --soft: #596273; --better: #0a6b38; --worse: #b3261e; --alarm: #fdecea;
  --c0: #1f5fbf; --c1: #b3541e; --c2: #2b7a4b; --c3: #8a3ea8; --c4: #8a6d00;
  --c5: #a8325f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181d;
  --line: #39424e; --soft: #a3adbb; --better: #6cd39a; --worse: #ff8f85;
  --alarm: #43201d; --c0: #79aef5; --c1: #f0a26b; --c2: #7fd0a0; --c3: #d29bea;
  --c4: #e0c14f; --c5: #f08fb4; } }
body { font: 16px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC",
  sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; } h2 { margin-top: 2.2rem; }
nav a { display: inline-block; margin: 0 .8rem .3rem 0; } a { color: LinkText; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem;
  border-bottom: 1px solid var(--line); }
tbody th { position: sticky; left: 0; background: var(--paper); font-weight: 600; }
td { min-width: 5rem; max-width: 28rem; overflow-wrap: anywhere; }
code { font-size: .85rem; }
.better { color: var(--better); font-weight: 600; }
.worse { color: var(--worse); font-weight: 600; }
.note { color: var(--soft); }
p.alarm { background: var(--alarm); border-left: .3rem solid var(--worse);
  padding: .5rem .8rem; }
.drawings { display: flex; flex-wrap: wrap; gap: 1rem; }
.drawings svg { width: 100%; max-width: 22rem; height: auto; }
.drawings svg.large { max-width: 36rem; }
svg text { fill: var(--ink); font-size: 11px; } svg.large text { font-size: 15px; }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style></head>
<body><main><h1>{title}</h1>
<nav aria-label="Sections">{links}</nav>
{body}
</main></body></html>
"""
