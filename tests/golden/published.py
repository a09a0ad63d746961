"""The published configurations and the names and shapes of their weights."""

from __future__ import annotations

import functools
import json
import lzma
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.golden.cases import FOLDER

_ENTRY = re.compile(r"(?P<name>\S+) \((?P<shape>[\d, ]*)\) x(?P<count>\d+)(?P<buffer> \[buffer\])?")
_FIRST_DOWNSAMPLING_STAGE = 1


@dataclass(frozen=True)
class PublishedKeys:
    """What the state dict of a published backbone holds.

    Args:
        shapes: Shapes by name.
        num_parameters: Numbers in all tensors that are no buffers.
    """

    shapes: dict[str, tuple[int, ...]]
    num_parameters: int

    def meta_tensors(self) -> dict[str, Tensor]:
        """Tensors of these names and shapes without content."""
        return {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}


@functools.cache
def published_backbones() -> dict[str, dict[str, Any]]:
    """The reference's backbone dicts, branches apart and long lists as runs."""
    content: dict[str, dict[str, Any]] = json.loads(
        (FOLDER / "published_backbones.json").read_text()
    )
    return content


@functools.cache
def published_keys() -> dict[str, PublishedKeys]:
    """The keys of all published backbones, by configuration."""
    text = lzma.decompress((FOLDER / "published_keys.txt.xz").read_bytes()).decode()
    sections = [section.splitlines() for section in text.split("##### ")[1:]]
    return {lines[0].split()[0]: _expand(lines[0], lines[1:]) for lines in sections}


def _expand(title: str, lines: list[str]) -> PublishedKeys:
    """Writes out the numbers that stand as ``*``.

    Lines of one pattern follow each other in the order of their numbers, each with those for which
    the shape is the same.
    """
    seen: Counter[str] = Counter()
    shapes: dict[str, tuple[int, ...]] = {}
    num_parameters = 0
    for line in lines:
        entry = _ENTRY.fullmatch(line)
        assert entry, line
        name, count = entry["name"], int(entry["count"])
        shape = tuple(int(size) for size in entry["shape"].split(",") if size.strip())
        first = seen[name] + (_FIRST_DOWNSAMPLING_STAGE if "downsampling_layer" in name else 0)
        if name.count("*") == 2:
            # Stages differ in width, so each line is one stage.
            names = [name.replace("*", str(first), 1).replace("*", str(i)) for i in range(count)]
            seen[name] += 1
        else:
            names = [name.replace("*", str(first + i)) for i in range(count)]
            seen[name] += count
        shapes |= dict.fromkeys(names, shape)
        if not entry["buffer"]:
            num_parameters += count * torch.Size(shape).numel()
    _, num_keys, expected = title.split()
    assert (len(shapes), num_parameters) == (int(num_keys), int(expected)), title
    return PublishedKeys(shapes, num_parameters)
