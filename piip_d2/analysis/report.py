"""What counting the costs of a network results in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PartCost:
    """Parameters and operations of one part of a network.

    Args:
        name: Where the part is, in the words of its weights: ``branches.0``, ``interactions.3``,
            ``merge.projections.1``; ``neck``, ``box_head`` and the like for a detector's parts.
        params: Number of parameters.
        flops: Multiply-adds, one counting as one operation.
        attention_flops: How much of it is the cores of attention: products of queries with keys
            and of weights with values, or sampling and its weighted sum.
        description: What the part is, in a few words; may be empty.
    """

    name: str
    params: int = 0
    flops: int = 0
    attention_flops: int = 0
    description: str = ""


@dataclass(frozen=True)
class CostReport:
    """Costs of a network for one image, part by part.

    Args:
        convention: ``"paper"``, ``"released_script"`` or ``"actual"``.
        resolutions: Nominal image side of every branch in pixels, largest first.
        image_size: Height and width in pixels of the image that comes in.
        parts: In the order in which they run, branches largest resolution first.
        notes: What a reader has to know about these numbers, a sentence each.
    """

    convention: str
    resolutions: tuple[int, ...]
    image_size: tuple[int, int]
    parts: tuple[PartCost, ...]
    notes: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Parameters of all parts."""
        return sum(part.params for part in self.parts)

    @property
    def flops(self) -> int:
        """Multiply-adds of all parts."""
        return sum(part.flops for part in self.parts)

    @property
    def attention_flops(self) -> int:
        """How much of ``flops`` is the cores of attention."""
        return sum(part.attention_flops for part in self.parts)

    def part(self, name: str) -> PartCost:
        """Adds up the parts whose name is ``name`` or begins with it and a dot.

        Args:
            name: Such a name.

        Returns:
            One part for all of them.

        Raises:
            KeyError: If there is none.
        """
        found = [part for part in self.parts if f"{part.name}.".startswith(f"{name}.")]
        if not found:
            raise KeyError(f"no part is called {name!r}; there are {sorted(_rows(self.parts))}")
        return _sum(name, found)

    @property
    def rows(self) -> tuple[PartCost, ...]:
        """The parts as a table shows them: every branch, all interactions as one, and so on."""
        return tuple(self.part(name) for name in _rows(self.parts))


def _rows(parts: Iterable[PartCost]) -> list[str]:
    names = [".".join(part.name.split(".")[: _row_depth(part.name)]) for part in parts]
    return list(dict.fromkeys(names))


def _row_depth(name: str) -> int:
    return 2 if name.startswith("branches.") else 1


def _sum(name: str, parts: list[PartCost]) -> PartCost:
    return PartCost(
        name,
        params=sum(part.params for part in parts),
        flops=sum(part.flops for part in parts),
        attention_flops=sum(part.attention_flops for part in parts),
        description=parts[0].description if len(parts) == 1 else "",
    )
