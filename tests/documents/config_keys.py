"""The keys that a config can have, with their defaults as they are typed, read from the configs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from piip_d2.configs import get_config
from piip_d2.configs.common.train import train
from piip_d2.data.augmentation import MultiScaleCrop
from piip_d2.modeling.backbone import (
    BEiTBranch,
    ConvNeXtBranch,
    ConvStem,
    PatchEmbed,
    TimmBranch,
    TimmStem,
    UniPerceiverBranch,
    ViTBranch,
    build_vit_block,
)

# In the column of defaults, what has to be given.
REQUIRED = "–"

# Filled in by the program that reads the config, or given by what stands around.
_NOT_SET_BY_HAND = {
    "dataloader.train.seed",
    "dataloader.train.start_iteration",
    "optimizer.params.model",
}
_VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

MASK_RCNN = "mask_rcnn/piip_tsb_1120_896_448_1x"
DINO = "dino/piip_tsb_1120_896_448_1x"
CASCADE = "cascade_rcnn/piip_tsb_1568_1120_672_1x"

CLASSES: dict[str, tuple[Callable[..., Any], ...]] = {
    # What the class hands on to its blocks has the defaults of the second.
    "ViTBranch": (ViTBranch, build_vit_block),
    "BEiTBranch": (BEiTBranch,),
    "UniPerceiverBranch": (UniPerceiverBranch,),
    "ConvNeXtBranch": (ConvNeXtBranch,),
    "TimmBranch": (TimmBranch,),
    "PatchEmbed": (PatchEmbed,),
    "ConvStem": (ConvStem,),
    "TimmStem": (TimmStem,),
    "MultiScaleCrop": (MultiScaleCrop,),
}


def keys_of_config(name: str, section: str) -> dict[str, str]:
    """Every key of a section, dotted, with its default as it would be typed.

    Beside what the config has, these are the arguments of our classes and functions that it calls
    and leaves at their defaults.

    Args:
        name: Of a config, as for ``get_config``.
        section: A dotted key: ``"train"``, ``"model.backbone"``.
    """
    node = OmegaConf.to_container(OmegaConf.select(get_config(name), section), resolve=False)
    return {key: default for key, default in _keys(node, section) if key not in _NOT_SET_BY_HAND}


def train_defaults() -> dict[str, str]:
    """Every key of the section ``train`` with the default that a config without it gets."""
    return dict(_keys(train, "train"))


def keys_of_class(name: str) -> dict[str, str]:
    """The arguments of a class in :data:`CLASSES`, with their defaults as they would be typed."""
    own, *more = CLASSES[name]
    found = dict(_arguments(own))
    for further in more:
        known = {**found, "drop_path": "", "attn": ""}
        found |= {key: value for key, value in _arguments(further) if key not in known}
    return found


def typed(value: Any) -> str:
    """Writes a value as on the command line."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list | tuple):
        return f"[{', '.join(typed(item) for item in value)}]"
    return repr(value)


def _keys(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict | DictConfig) and node:
        target = node.get("_target_")
        for key, value in node.items():
            if key != "_target_":
                yield from _keys(value, f"{path}.{key}")
        if target is not None:
            called = locate(target) if isinstance(target, str) else target
            if called.__module__.startswith("piip_d2."):
                yield from _left_out(called, set(node), path)
    elif isinstance(node, list) and node and all(isinstance(item, dict) for item in node):
        for number, item in enumerate(node):
            yield from _keys(item, f"{path}.{number}")
    else:
        yield path, typed(node)


def _left_out(called: Callable[..., Any], given: set[Any], path: str) -> Iterator[tuple[str, str]]:
    for key, default in _arguments(called):
        if key not in given and default != REQUIRED:
            yield f"{path}.{key}", default


def _arguments(called: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    for parameter in inspect.signature(called).parameters.values():
        if parameter.kind not in _VARIABLE:
            required = parameter.default is inspect.Parameter.empty
            yield parameter.name, REQUIRED if required else typed(parameter.default)
