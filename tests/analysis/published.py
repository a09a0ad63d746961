"""The published networks and what the reference counts for them."""

from __future__ import annotations

import functools
import json
from typing import Any

from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.checkpoint import build_from_official
from piip_d2.modeling.backbone import PIIPNetwork
from tests.golden.cases import FOLDER
from tests.golden.published import published_backbones

COSTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "costs.json").read_text())
_FIXED = "__branch4fixed"
_SINGLE_SIDE = 1024


def build_published(name: str) -> PIIPNetwork:
    """Builds a published network without numbers; with ``__branch4fixed``, the corrected one.

    Networks that differ in nothing but resolutions are the same object; see :func:`resolutions_of`.
    """
    cfg = published_backbones()[name.removesuffix(_FIXED)]
    branches = {
        key: {**branch, "real_size": _SINGLE_SIDE} for key, branch in cfg["branches"].items()
    }
    return _build(json.dumps({**cfg["backbone"], **branches}), name.endswith(_FIXED))


def resolutions_of(name: str) -> list[int]:
    """Image sides of a published network's branches, largest first.

    The reference counts single networks at 1024 pixels.
    """
    branches = published_backbones()[name.removesuffix(_FIXED)]["branches"]
    sizes = [branches[key]["real_size"] for key in sorted(branches, reverse=True)]
    return sizes or [_SINGLE_SIDE]


@functools.cache
def _build(cfg: str, corrected: bool) -> PIIPNetwork:
    four_branch = "corrected" if corrected else "as_released"
    with without_numbers():
        return build_from_official(json.loads(cfg), four_branch=four_branch)
