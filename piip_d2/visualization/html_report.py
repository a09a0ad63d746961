"""Pictures on one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from piip_d2._atomic_file import write_text_atomically
from piip_d2.visualization.figures import Picture
from piip_d2.visualization.html_explorer import EXPLORER_HTML, EXPLORER_SCRIPT
from piip_d2.visualization.html_parts import STYLE, ZOOM_HTML, ZOOM_SCRIPT

__all__ = ["ReportSection", "render_report", "write_report"]

# A browser that heeds this loads nothing from anywhere, whatever a name or caption contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class ReportSection:
    """A part of a report.

    Args:
        title: Its heading.
        text: What a reader should know first; may be empty.
        pictures: In the order to show them; clicking on one enlarges it.
        explorer: What :func:`piip_d2.visualization.inside.explorer_data` gives, to click through
            attention with; None for none.
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    explorer: Mapping[str, Any] | None = None


def write_report(
    path: str | Path, title: str, facts: Mapping[str, str], sections: Sequence[ReportSection]
) -> None:
    """Writes a report as one file.

    Args:
        path: The file, usually ``.html``; its folder must exist.
        title: The page's heading.
        facts: What the page is about, as names and values for a table.
        sections: Its parts.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If more than one section has an explorer.
    """
    write_text_atomically(path, render_report(title, facts, sections))


def render_report(title: str, facts: Mapping[str, str], sections: Sequence[ReportSection]) -> str:
    """Renders a report; see :func:`write_report`."""
    with_explorer = [section for section in sections if section.explorer is not None]
    if len(with_explorer) > 1:
        raise ValueError(f"one section can have an explorer, got {len(with_explorer)}")
    script = ZOOM_SCRIPT
    if with_explorer:
        data = json.dumps(with_explorer[0].explorer).replace("</", "<\\/")
        script += EXPLORER_SCRIPT.replace("@DATA@", data)
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n"
        for name, value in facts.items()
    )
    contents = "".join(
        f'<li><a href="#section{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections)
    )
    body = "".join(_render_section(number, section) for number, section in enumerate(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>
<table>{rows}</table>
<nav><ol>{contents}</ol></nav></header>
<main>
{body}</main>
{ZOOM_HTML}
<script>{script}</script>
</body>
</html>
"""


def _render_section(number: int, section: ReportSection) -> str:
    text = f"<p>{escape(section.text)}</p>\n" if section.text else ""
    explorer = EXPLORER_HTML if section.explorer is not None else ""
    pictures = "".join(_render_picture(picture) for picture in section.pictures)
    return (
        f'<section id="section{number}"><h2>{escape(section.title)}</h2>\n'
        f"{text}{explorer}{pictures}</section>\n"
    )


def _render_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    alt = escape(f"{picture.title}. {picture.caption}", quote=True)
    return (
        '<figure><img tabindex="0" class="zoomable" '
        f'src="data:image/png;base64,{data}" alt="{alt}">\n'
        f"<figcaption><b>{escape(picture.title)}.</b> {escape(picture.caption)}</figcaption>"
        "</figure>\n"
    )
