"""Reads the backbone dicts of the reference implementation's configurations."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NUM_BRANCHES = {"PIIPTwoBranch": 2, "PIIPThreeBranch": 3, "PIIPFourBranch": 4}
"""The reference's networks of several branches, and how many they have."""

FAMILIES = ("vit_models", "BEiT", "UnifiedBertEncoder", "ConvNextHFWrapper", "InternViT6B")
"""The reference's classes of branches."""

BASELINES = ("vit_models", "ConvNextHFWrapper", "InternViT6B")
"""Those that are detection backbones alone, too."""

# The reference tells families apart by what the path of the weights contains, in this order.
_FAMILY_BY_PATH = {
    "deit": "vit_models",
    "beit": "BEiT",
    "perceiver": "UnifiedBertEncoder",
    "convnext": "ConvNextHFWrapper",
}
_NUMBERED = re.compile(r"branch\d+")
_OTHER_FAMILY = "InternViT6B"
_RUNS = "_rle"


def read_backbone_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Brings a backbone dict into the form that the reference's constructors take.

    Args:
        cfg: The dict; or one with the entries ``backbone`` and, where the branches stand apart,
            ``branches``. A list ``x`` may be given as ``x_rle``, pairs of a value and how often it
            comes.

    Returns:
        One dict with ``type``, with ``branch1`` and so on where there are several branches, and
        with whole lists.

    Raises:
        ValueError: If the type is unknown or a branch is lacking.
    """
    cfg = join_parts(cfg)
    known = sorted({*NUM_BRANCHES, *BASELINES})
    if cfg.get("type") not in known:
        raise ValueError(f"the backbone's type must be one of {known}, got {cfg.get('type')!r}")
    count = NUM_BRANCHES.get(cfg["type"], 0)
    names = [f"branch{number}" for number in range(1, count + 1)]
    lacking = [name for name in names if not isinstance(cfg.get(name), Mapping)]
    if lacking:
        raise ValueError(
            f"a {cfg['type']} needs the dicts {', '.join(names)}; {', '.join(lacking)} is not there"
        )
    more = [name for name in cfg if _NUMBERED.fullmatch(name) and name not in names]
    if more:
        raise ValueError(
            f"a {cfg['type']} has {count or 'no'} branches of its own, but {', '.join(more)} is "
            "there too; give the type that has so many, or take it away"
        )
    return {**_without_runs(cfg), **{name: _without_runs(cfg[name]) for name in names}}


def join_parts(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """Puts the branches of a dict with ``backbone`` and ``branches`` among the rest."""
    parts = [cfg]
    if isinstance(cfg, Mapping) and isinstance(cfg.get("backbone"), Mapping):
        parts = [cfg["backbone"], cfg.get("branches") or {}]
    for part in parts:
        if not isinstance(part, Mapping):
            raise ValueError(
                f"a backbone's configuration must be a dict, as must its branches, got "
                f"{type(part).__name__}"
            )
    return {name: value for part in parts for name, value in part.items()}


def branch_cfgs(cfg: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the dicts of all branches.

    Args:
        cfg: What :func:`read_backbone_cfg` returns.

    Returns:
        branch1 first, or the dict itself where it is a single network's.
    """
    count = NUM_BRANCHES.get(cfg["type"], 0)
    return [dict(cfg[f"branch{number}"]) for number in range(1, count + 1)] or [dict(cfg)]


def branch_family(branch_cfg: Mapping[str, Any]) -> str:
    """Tells which of the reference's classes a branch is of.

    Args:
        branch_cfg: The branch's dict. Its ``type``, if it has one, comes before the path of its
            weights.

    Returns:
        One of :data:`FAMILIES`.

    Raises:
        ValueError: If there is neither, or the type is unknown.
    """
    named = branch_cfg.get("type")
    if named is not None:
        if named not in FAMILIES:
            raise ValueError(f"a branch's type must be one of {list(FAMILIES)}, got {named!r}")
        return str(named)
    path = branch_cfg.get("pretrained")
    if not path:
        raise ValueError(
            "a branch needs 'pretrained', whose text tells its family (deit, beit, perceiver, "
            f"convnext, else InternViT), or a 'type' of {list(FAMILIES)}; it has {list(branch_cfg)}"
        )
    return next((name for part, name in _FAMILY_BY_PATH.items() if part in path), _OTHER_FAMILY)


def block_indexes(branch_cfg: Mapping[str, Any], name: str) -> list[int]:
    """Turns the reference's [first, last] pairs into the last blocks.

    Args:
        branch_cfg: The branch's dict.
        name: The branch's name, for messages.

    Returns:
        One number per interaction.

    Raises:
        ValueError: If blocks are left out between the pairs, or there are no pairs.
    """
    ranges = [list(pair) for pair in branch_cfg.get("interaction_indexes") or ()]
    if not ranges:
        raise ValueError(f"{name} needs interaction_indexes, one [first, last] per interaction")
    expected_first = 0
    for pair in ranges:
        if len(pair) != 2 or pair[0] != expected_first or pair[1] < pair[0]:
            raise ValueError(
                f"interaction_indexes must run through the blocks without gaps from 0 on, but "
                f"{name} has {ranges}"
            )
        expected_first = pair[1] + 1
    return [pair[1] for pair in ranges]


def check_interaction_counts(indexes: Sequence[Sequence[int]]) -> None:
    """Checks that all branches stop for as many interactions.

    Args:
        indexes: The last blocks before the interactions, per branch.

    Raises:
        ValueError: If they do not.
    """
    counts = {f"branch{number}": len(blocks) for number, blocks in enumerate(indexes, start=1)}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "all branches must have the same number of interactions, but interaction_indexes has "
            + ", ".join(f"{count} in {name}" for name, count in counts.items())
        )


def resolutions_in(text: str) -> list[int]:
    """Reads the resolutions of the branches from a configuration file's text.

    Args:
        text: The text, in Python; nothing of it is run.

    Returns:
        ``real_size`` of branch1 and so on; nothing if the text does not say them all.
    """
    sizes: dict[str, int] = {}
    for branch in _keywords(_nodes(text)):
        for entry in _keywords(ast.iter_child_nodes(branch.value)):
            value = entry.value.value if isinstance(entry.value, ast.Constant) else None
            if entry.arg == "real_size" and isinstance(value, int):
                sizes[str(branch.arg)] = value
    names = [f"branch{number}" for number in range(1, len(sizes) + 1)]
    return [sizes[name] for name in names] if set(names) == set(sizes) else []


def pixel_statistics_in(text: str) -> dict[str, list[float]]:
    """Reads how images are normalised from a configuration file's text.

    Args:
        text: The text, in Python; nothing of it is run.

    Returns:
        ``pixel_mean`` and ``pixel_std``, the first ones of three numbers that the text gives.
    """
    found: dict[str, list[float]] = {}
    for keyword in _keywords(_nodes(text)):
        if keyword.arg in ("mean", "std") and isinstance(keyword.value, ast.List | ast.Tuple):
            values = [getattr(entry, "value", None) for entry in keyword.value.elts]
            numbers = [float(value) for value in values if isinstance(value, int | float)]
            if len(numbers) == len(values) == 3:
                found.setdefault(f"pixel_{keyword.arg}", numbers)
    return found


def side_of(num_rows: int) -> int:
    """Returns the side of a square table with so many rows, or 0 if no square has them."""
    side = math.isqrt(num_rows)
    return side if side * side == num_rows else 0


def _nodes(text: str) -> Iterable[ast.AST]:
    try:
        return ast.walk(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return []


def _keywords(nodes: Iterable[ast.AST]) -> Iterable[ast.keyword]:
    return (node for node in nodes if isinstance(node, ast.keyword))


def _without_runs(cfg: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in cfg.items() if not key.endswith(_RUNS)}
    for key, runs in cfg.items():
        if key.endswith(_RUNS):
            expanded = [value for value, count in runs for _ in range(count)]
            plain.setdefault(key.removesuffix(_RUNS), expanded)
    return plain
