"""Makes one site of what lies in several places: README.md, docs/, a notebook, and linked code.

MkDocs calls the functions ``on_...``. Documents link to each other as files of the repository, so
that they also work where the repository is read; here the links become those of pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Documents outside docs/ and the pages that they become.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}

_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".json": "json", ".sh": "bash", ".yaml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents outside ``docs/``, notebooks as pages, and pages of all linked code."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in OUTSIDE}
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=texts[name]))
    for notebook in sorted(DOCS.glob("*.ipynb")):
        text = notebook_as_markdown(notebook)
        texts[f"docs/{notebook.name}"] = text
        files.append(File.generated(config, notebook.with_suffix(".md").name, content=text))
    texts.update({f"docs/{path.name}": path.read_text("utf-8") for path in DOCS.glob("*.md")})
    linked = {path for name, text in texts.items() for path in _linked_files(ROOT / name, text)}
    for path in sorted(linked):
        # Reached by links alone.
        hidden = InclusionLevel.NOT_IN_NAV
        page = _page_of(path)
        if not files.get_file_from_path(page):
            text = _code_page(path)
            files.append(File.generated(config, page, content=text, inclusion=hidden))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files of the repository into links to pages of the site."""
    name = page.file.src_uri
    if name.startswith("source/"):
        return markdown
    sources = {target: source for source, target in OUTSIDE.items()}
    origin = ROOT / sources.get(name, f"docs/{name}")

    def to_page(match: re.Match[str]) -> str:
        path = _resolve(origin, match[1])
        if path is None:
            return match[1]
        return os.path.relpath(_page_of(path), str(PurePosixPath(name).parent))

    pieces = re.split(f"({_FENCED.pattern})", markdown, flags=_FENCED.flags)
    pieces[::2] = [_LINK.sub(to_page, piece) for piece in pieces[::2]]
    return "".join(pieces)


def notebook_as_markdown(notebook: Path) -> str:
    """Writes a notebook as Markdown: its texts, its code, and what the code has shown."""
    parts = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [part for output in cell.outputs if (part := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![what this shows](data:image/png;base64,{data['image/png'].strip()})"
    text = output.get("text") or data.get("text/plain", "")
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def _linked_files(origin: Path, text: str) -> set[Path]:
    """Files and folders outside ``docs/`` that a document links to, none that is a document."""
    targets = {_resolve(origin, match[1]) for match in _LINK.finditer(_FENCED.sub("", text))}
    documents = {ROOT / name for name in OUTSIDE}
    return {path for path in targets if path and DOCS not in path.parents} - documents


def _resolve(origin: Path, target: str) -> Path | None:
    """The file of the repository that a link leads to, or None for any other link."""
    if re.match(r"[a-z]+:", target):
        return None
    path = Path(os.path.normpath(origin.parent / target))
    return path if path.exists() and ROOT in path.parents else None


def _page_of(path: Path) -> str:
    """Place in the site of a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name in OUTSIDE:
        return OUTSIDE[name]
    if DOCS in path.parents:
        inside = path.relative_to(DOCS)
        return (inside.with_suffix(".md") if path.suffix == ".ipynb" else inside).as_posix()
    return f"source/{name}/index.md" if path.is_dir() else f"source/{name}.md"


def _code_page(path: Path) -> str:
    title = f"# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("_"))
        return title + "".join(f"* `{name}`\n" for name in names)
    language = _LANGUAGES.get(path.suffix, "text")
    return f"{title}````{language}\n{path.read_text(encoding='utf-8')}\n````\n"
