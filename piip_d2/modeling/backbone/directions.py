"""Which branches exchange features with which, and in which direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Exchange:
    """What passes between two branches in one interaction.

    Args:
        low: Number of the branch with the lower resolution; branches ascend in resolution from 0.
        high: Number of the branch with the higher resolution.
        high_to_low: Whether the low-resolution branch attends to the other.
        low_to_high: Whether the high-resolution branch attends to the other.
    """

    low: int
    high: int
    high_to_low: bool = True
    low_to_high: bool = True


def exchanges(directions: str, num_branches: int, interaction: int) -> list[Exchange]:
    """Lists the exchanges of one interaction, in ascending order of the branches.

    The paper (https://arxiv.org/abs/2406.04330) compares five types and shows them in a figure
    only. ``"adjacent"`` (type 4, what PIIP is) and ``"all_pairs"`` (type 5) are certain; the
    others are read from the published costs. ``"alternating"`` has that of type 1, ``"cycle"``
    that of type 2; ``"reverse_cycle"`` comes within half a per cent of type 3.

    Args:
        directions: ``"adjacent"``: neighbours, both ways. ``"alternating"``: neighbours, one way,
            first towards the low resolutions, in the next interaction back. ``"cycle"``: every
            branch attends to the next lower resolution, the lowest to the highest.
            ``"reverse_cycle"``: the other way round. ``"all_pairs"``: all branches, both ways.
        num_branches: Number of branches, from 1.
        interaction: Number of the interaction, from 0.

    Returns:
        One exchange per pair of branches that have any.

    Raises:
        ValueError: If ``directions`` is unknown.
    """
    if directions not in _PATTERNS:
        raise ValueError(f"directions must be one of {sorted(_PATTERNS)}, got {directions!r}")
    return _PATTERNS[directions](num_branches, interaction)


def _adjacent(num_branches: int, interaction: int) -> list[Exchange]:
    return [Exchange(low, low + 1) for low in range(num_branches - 1)]


def _alternating(num_branches: int, interaction: int) -> list[Exchange]:
    downwards = interaction % 2 == 0
    return [Exchange(low, low + 1, downwards, not downwards) for low in range(num_branches - 1)]


def _cycle(num_branches: int, interaction: int) -> list[Exchange]:
    return _closed_chain(num_branches, chain_downwards=False)


def _reverse_cycle(num_branches: int, interaction: int) -> list[Exchange]:
    return _closed_chain(num_branches, chain_downwards=True)


def _closed_chain(num_branches: int, *, chain_downwards: bool) -> list[Exchange]:
    if num_branches < 3:
        # Two branches close the circle by attending to each other.
        return _adjacent(num_branches, 0)
    last = num_branches - 1
    chain = [Exchange(low, low + 1, chain_downwards, not chain_downwards) for low in range(last)]
    closing = Exchange(0, last, not chain_downwards, chain_downwards)
    return sorted([*chain, closing], key=lambda exchange: (exchange.low, exchange.high))


def _all_pairs(num_branches: int, interaction: int) -> list[Exchange]:
    return [Exchange(low, high) for low, high in combinations(range(num_branches), 2)]


_PATTERNS: dict[str, Callable[[int, int], list[Exchange]]] = {
    "adjacent": _adjacent,
    "alternating": _alternating,
    "cycle": _cycle,
    "reverse_cycle": _reverse_cycle,
    "all_pairs": _all_pairs,
}
