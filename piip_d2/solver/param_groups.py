"""Layer-wise learning-rate decay of PIIP: the earlier a layer of a branch, the smaller its rate.

Paper: https://arxiv.org/abs/2406.04330. The rule is that of the released recipe, which numbers the
layers of all branches on one scale of ``num_layers + 2`` steps:

* 0: patch, position and time embeddings of every branch, rotary ones too, and their norm;
* ``1 ... num_layers``: the blocks; a branch with fewer blocks takes longer strides along the scale;
* ``num_layers + 1``: all else (interactions, merge, feature maps, neck, heads), at the full rate.

A step down multiplies the rate by ``layer_decay``.

Vectors (norms, LayerScale) and biases get no weight decay; everything else does, among it the
position tables and the scalar merge weights, as in the released recipe.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)

# Branches stand at "backbone.bottom_up.branches" below an FPN, at "backbone.branches" in detectors
# with a neck of their own, and at "branches" in the bare network.
_BRANCH_PARAMETER = re.compile(r"(?:^|\.)branches\.(?P<branch>\d+)\.(?P<rest>.+)$")
_BLOCK_PARAMETER = re.compile(r"blocks\.(?P<block>\d+)\.")
_EMBEDDINGS = frozenset(
    {
        "patch_embed",
        "pos_embed",
        "temporal_embed",
        "embed_norm",
        "norm_pre",
        "rope",
        "cls_token",
        "mask_token",
    }
)


def get_piip_param_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float = 0.05,
    layer_decay: float = 0.85,
    num_layers: int | None = None,
    skip_strides: Sequence[float] | None = None,
    no_decay_names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters of a model into groups for a torch optimizer.

    Args:
        model: Any model. Parameters outside ``branches`` get the full rate.
        base_lr: Full learning rate.
        weight_decay: Weight decay where it applies.
        layer_decay: Factor of the rate per layer, in (0, 1]; 1 switches the decay off.
        num_layers: Length of the scale in blocks; None takes the depth of the deepest branch.
        skip_strides: Steps along the scale per block, for all branches but the first (the largest
            network), in the model's own order: descending size. None computes
            ``num_layers / depth`` for every branch, which gives the released values.
        no_decay_names: More names without weight decay, each compared to every part of a
            parameter's dotted name: ``["pos_embed"]``.

    Returns:
        One dict per layer and kind of decay with ``params``, ``lr``, ``weight_decay`` and ``name``,
        in the order of the model's parameters.

    Raises:
        ValueError: If an argument does not fit the model; the message says which and why.
        TypeError: If ``no_decay_names`` is a single string.
    """
    if not 0.0 < layer_decay <= 1.0:
        raise ValueError(f"layer_decay ({layer_decay}) must lie in (0, 1]")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_exempt_names(no_decay_names, parameters)
    depths = _branch_depths([name for name, _ in model.named_parameters()])
    num_layers = max(depths.values(), default=0) if num_layers is None else num_layers
    strides = _branch_strides(depths, num_layers, skip_strides)
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        key = _layer_id(name, strides, num_layers), _is_decayed(name, parameter, no_decay_names)
        members.setdefault(key, []).append(parameter)
    steps = {branch: float(stride) for branch, stride in strides.items()}
    logger.info(
        "%d parameter groups over %d branches, layer decay %g, steps per block %s",
        len(members),
        len(depths),
        layer_decay,
        steps,
    )
    return [
        {
            "params": params,
            "lr": base_lr * layer_decay ** (num_layers + 1 - layer),
            "weight_decay": weight_decay if is_decayed else 0.0,
            "name": f"layer_{layer}_{'decay' if is_decayed else 'no_decay'}",
        }
        for (layer, is_decayed), params in members.items()
    ]


def _check_exempt_names(names: Sequence[str], parameters: Mapping[str, nn.Parameter]) -> None:
    if isinstance(names, str):
        raise TypeError(f"no_decay_names must be a list of names, got the string {names!r}")
    known = {part for name in parameters for part in name.split(".")}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"no_decay_names {unknown} match no trainable parameter of the model; "
            "give single parts of dotted names, such as 'pos_embed'"
        )


def _branch_depths(names: Sequence[str]) -> dict[int, int]:
    """Number of blocks of every branch, 0 for a branch that is not made of ``blocks``."""
    depths: dict[int, int] = {}
    for name in names:
        match = _BRANCH_PARAMETER.search(name)
        if match is None:
            continue
        branch = int(match["branch"])
        block = _BLOCK_PARAMETER.match(match["rest"])
        depths[branch] = max(depths.get(branch, 0), int(block["block"]) + 1 if block else 0)
    return depths


def _branch_strides(
    depths: Mapping[int, int], num_layers: int, skip_strides: Sequence[float] | None
) -> dict[int, Fraction]:
    """Steps along the scale per block, for the branches that are made of blocks."""
    strides = {b: Fraction(num_layers, depth) for b, depth in depths.items() if depth}
    if skip_strides is not None:
        expected = max(len(depths) - 1, 0)
        if len(skip_strides) != expected:
            raise ValueError(
                f"skip_strides needs one entry per branch but the first: {expected} for a model of "
                f"{len(depths)} branches, got {len(skip_strides)} ({list(skip_strides)})"
            )
        given = dict(enumerate([1, *skip_strides]))
        strides = {branch: Fraction(given[branch]) for branch in strides}
    for branch, stride in strides.items():
        last = math.floor(depths[branch] * stride)
        if stride <= 0 or last > num_layers:
            raise ValueError(
                f"the {depths[branch]} blocks of branch {branch}, {float(stride):g} steps each, "
                f"must end between 1 and num_layers ({num_layers}), got {last}; change num_layers "
                "or skip_strides, or leave both out"
            )
    return strides


def _is_decayed(name: str, parameter: nn.Parameter, exempt: Sequence[str]) -> bool:
    if parameter.ndim == 1 or name.endswith(".bias"):
        return False
    return set(exempt).isdisjoint(name.split("."))


def _layer_id(name: str, strides: Mapping[int, Fraction], num_layers: int) -> int:
    match = _BRANCH_PARAMETER.search(name)
    if match is None or int(match["branch"]) not in strides:
        return num_layers + 1
    if match["rest"].split(".")[0] in _EMBEDDINGS:
        return 0
    block = _BLOCK_PARAMETER.match(match["rest"])
    if block is None:
        return num_layers + 1
    # Fractional positions are rounded down, as the released recipe does by naming its groups "%d".
    return math.floor((int(block["block"]) + 1) * strides[int(match["branch"])])
