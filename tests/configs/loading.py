"""The experiments for the tests: each file read once, each detector built once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig
from torch import nn

from piip_d2.analysis.without_numbers import without_numbers

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(
    path
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name != "common" and path.stem != "__init__"
)
NAMES = [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in FILES]

# One of each kind. To build all takes minutes.
ALWAYS_BUILT = {
    "ablations/piip_tsb_1120_896_448_no_interaction",
    "ablations/piip_tsb_1120_896_448_regular_1",
    "ablations/piip_tsb_1568_1120_672_merge_tb",
    "cascade_rcnn/piip_sbl_1568_1120_672_1x_4conv_as_mmdet",
    "cascade_rcnn/piip_sbl_1568_1120_672_1x_as_mmdet",
    "cascade_rcnn/piip_tsb_1568_1120_672_3x_ms_boxes",
    "dino/piip_lh6b_1536_1024_512_2x",
    "dino/piip_sbl_1792_1120_672_3x",
    "lvis/mask_rcnn_piip_tsb_1120_896_448",
    "mask_rcnn/convnext_b_1024_1x",
    "mask_rcnn/intern_vit_6b_1024_1x_ms",
    "mask_rcnn/piip_ct_vs_cb_1024_672_448_1x",
    "mask_rcnn/piip_lh6b_1536_1024_512_1x_ms",
    "mask_rcnn/piip_sbl_augreg_fast_1568_1120_672_1x",
    "mask_rcnn/piip_sbl_beit_1568_1120_672_1x",
    "mask_rcnn/piip_sbl_uniperceiver_1568_1120_672_1x",
    "mask_rcnn/piip_tsb_1120_896_448_1x",
    "mask_rcnn/piip_tsbl_1344_896_672_448_1x_as_released",
    "mask_rcnn/vit_b_1024_1x",
    *(name for name in NAMES if name.startswith("quick/")),
}


# Fewer still, for what takes seconds with each.
ALWAYS_RUN = {
    "ablations/piip_tsb_1568_1120_672_merge_tb",
    "mask_rcnn/convnext_b_1024_1x",
    "mask_rcnn/piip_ct_vs_cb_1024_672_448_1x",
    "quick/mask_rcnn_scenes",
}


def slow_unless(always: Collection[str], name: str, *others: object) -> Any:
    """A parameter set that is left out by default unless it is one of some."""
    return pytest.param(name, *others, marks=() if name in always else pytest.mark.slow, id=name)


each_config = pytest.mark.parametrize("name", NAMES)
each_detector = pytest.mark.parametrize("name", [slow_unless(ALWAYS_BUILT, n) for n in NAMES])
each_network = pytest.mark.parametrize("name", [slow_unless(ALWAYS_RUN, n) for n in NAMES])


def load(name: str) -> DictConfig:
    return copy.deepcopy(load_once(name))


@functools.cache
def load_once(name: str) -> DictConfig:
    """The configuration; for reading only."""
    return LazyConfig.load(str(CONFIGS / f"{name}.py"))


@functools.cache
def build(name: str) -> nn.Module:
    """The detector without memory for its weights; for reading only."""
    return instantiate_on_meta(load(name).model)


def instantiate_on_meta(cfg: DictConfig) -> nn.Module:
    with without_numbers():
        return instantiate(cfg)
