"""Finds in a Markdown file what a reader would type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_COMMAND_IN_TEXT = re.compile(r"`((?:python|make|pip|torchrun) [^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        document: File name.
        line: Number of its first line in the file, from 1.
        language: What stands behind the opening fence.
        text: Its content.
    """

    document: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Step:
    """Something to type: one shell command, or a block of Python.

    Args:
        place: Document and line, for messages.
        words: The command, split as a shell does; empty for Python.
        program: The Python program; empty for a command.
    """

    place: str
    words: tuple[str, ...] = ()
    program: str = ""


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(_name(document), text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


def prose(document: Path) -> str:
    """The text of a document with its fenced blocks emptied."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), document.read_text("utf-8"))


def steps(documents: list[Path]) -> list[Step]:
    """All that a reader would type, in order; what stands there twice comes once.

    Commands within the text come after the blocks of their document.
    """
    found: dict[tuple[tuple[str, ...], str], Step] = {}
    for document in documents:
        listed = [step for block in blocks(document) for step in _steps_of(block)]
        for step in [*listed, *_steps_in_text(document)]:
            found.setdefault((step.words, step.program), step)
    return list(found.values())


def _steps_in_text(document: Path) -> Iterator[Step]:
    text = prose(document)
    for match in _COMMAND_IN_TEXT.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Step(f"{_name(document)}:{line}", tuple(shlex.split(match[1])))


def _name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def _steps_of(block: Block) -> Iterator[Step]:
    if block.language == "python":
        yield Step(f"{block.document}:{block.line}", program=block.text)
    if block.language != "bash":
        return
    pending = ""
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        words = shlex.split(pending, comments=True)
        pending = ""
        if words:
            yield Step(f"{block.document}:{number}", tuple(words))
    assert not pending, f"{block.document}:{block.line}: the last line goes on, but nothing follows"
