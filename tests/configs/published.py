"""The released configurations and which of ours is which."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from tests.golden.cases import FOLDER
from tests.golden.published import published_backbones

NUM_TRAINING_IMAGES = 117_266

_DEIT = [
    "tsb_1120_896_448",
    "tsb_1568_896_448",
    "tsb_1568_1120_672",
    "sbl_1120_672_448",
    "sbl_1344_896_448",
    "sbl_1568_896_672",
    "sbl_1568_1120_672",
    "tsbl_1344_896_672_448",
    "tsbl_1568_1120_672_448",
    "tsbl_1792_1568_1120_448",
]
_HYBRIDS = {
    "ct_cs_cb": "convnext-tsb",
    "ct_vs_vb": "convnext-t_vit-s_vit-b",
    "ct_cs_vb": "convnext-t_convnext-s_vit-b",
    "ct_vs_cb": "convnext-t_vit-s_convnext-b",
    "vt_cs_vb": "vit-t_convnext-s_vit-b",
    "vt_cs_cb": "vit-t_convnext-s_convnext-b",
    "vt_vs_cb": "vit-t_vit-s_convnext-b",
}
_H6B = "2branch/mask_rcnn_internvit_h6b_1024_512_fpn_1x_coco_bs16_ms"
_AUGREG = "3branch/mask_rcnn_augreg_sbl_1568_1120_672_fpn_1x_coco_bs16"


@dataclass(frozen=True)
class Published:
    """One of our experiments and the configuration that it is.

    Args:
        name: Ours.
        official: Theirs.
        four_branch: How their four-branch class is read, see ``build_from_official``.
    """

    name: str
    official: str
    four_branch: str = "corrected"

    @property
    def backbone(self) -> dict[str, Any]:
        return published_backbones()[self.official]

    @property
    def branches(self) -> list[dict[str, Any]]:
        """Their branches, largest resolution first."""
        branches = list(self.backbone["branches"].values()) or [self.backbone["backbone"]]
        if self.four_branch == "as_released":
            branches[3] = {**branches[2], "real_size": branches[3]["real_size"]}
        return branches[::-1]

    @property
    def recipe(self) -> dict[str, Any]:
        return _recipes()[self.official]

    @property
    def batch_size(self) -> int:
        # The rest of it, how many GPUs there are, stands in their names alone.
        return 32 if "bs32" in self.official else 16

    def steps(self, pipeline: str) -> dict[str, dict[str, Any]]:
        """Their transforms in training or evaluation by name; of two crops the last."""
        steps = self.recipe[f"{pipeline}_pipeline_effective"]
        if pipeline == "test":
            around = steps[0][1]
            return {**dict(around["transforms"]), "Resize": around}
        return dict(steps)


@functools.cache
def _recipes() -> dict[str, dict[str, Any]]:
    recipes: dict[str, dict[str, Any]] = json.loads((FOLDER / "published_recipes.json").read_text())
    return recipes


def official_names() -> set[str]:
    return set(_recipes())


def _deit(key: str, **options: str) -> Published:
    family = key.split("_")[0]
    suffix = "_as_released" if options else ""
    official = f"{len(family)}branch/mask_rcnn_deit_{key}_fpn_1x_coco_bs16"
    return Published(f"mask_rcnn/piip_{key}_1x{suffix}", official, **options)


PUBLISHED = [
    *map(_deit, _DEIT),
    *(_deit(key, four_branch="as_released") for key in _DEIT if key.startswith("tsbl")),
    *(
        Published(
            f"mask_rcnn/piip_sbl_{family}_1568_1120_672_1x",
            f"3branch/mask_rcnn_{family}_sbl_1568_1120_672_fpn_1x_coco_bs16",
        )
        for family in ("augreg", "beit", "dinov2", "mae", "uniperceiver")
    ),
    Published("mask_rcnn/piip_sbl_augreg_fast_1568_1120_672_1x", f"{_AUGREG}_speedup"),
    Published("mask_rcnn/piip_h6b_1024_512_1x_ms", _H6B),
    Published("mask_rcnn/piip_h6b_fast_1024_512_1x_ms", f"{_H6B}_speedup"),
    Published(
        "mask_rcnn/piip_lh6b_1536_1024_512_1x_ms",
        "3branch/mask_rcnn_internvit_lh6b_1536_1024_512_fpn_1x_coco_bs32_ms",
    ),
    *(
        Published(
            f"mask_rcnn/piip_{ours}_1024_672_448_1x",
            f"convnext/mask_rcnn_{theirs}_1024_672_448_regular-fpn",
        )
        for ours, theirs in _HYBRIDS.items()
    ),
    Published("mask_rcnn/vit_b_1024_1x", "baseline/mask_rcnn_deit_vit_b_fpn_1x_coco_bs16"),
    Published("mask_rcnn/vit_l_1024_1x", "baseline/mask_rcnn_deit_vit_l_fpn_1x_coco_bs16"),
    Published(
        "mask_rcnn/intern_vit_6b_1024_1x_ms", "baseline/mask_rcnn_internvit_6b_fpn_1x_coco_bs16_ms"
    ),
    Published("mask_rcnn/convnext_b_1024_1x", "baseline/mask_rcnn_convnext-base_1024_regular-fpn"),
    Published(
        "dino/piip_sbl_1792_1120_672_3x",
        "3branch/dino_4scale_deit_384_sbl_1792_1120_672_fpn_3x_coco_bs32_ms",
    ),
    Published(
        "dino/piip_h6b_1024_768_1x",
        "2branch/dino_4scale_internvit_h6b_1024_768_fpn_1x_coco_bs32_ms",
    ),
    Published(
        "dino/piip_lh6b_1536_1024_512_2x",
        "3branch/dino_4scale_internvit_lh6b_1536_1024_512_fpn_2x_coco_bs32_ms",
    ),
]
# Rows of the paper without a released configuration, and our own recipes.
UNRELEASED = {
    "mask_rcnn/piip_vt_vs_vb_1024_672_448_1x",
    "dino/piip_sbl_1568_1120_672_1x",
    "dino/piip_tsb_1120_896_448_1x",
    "dino/piip_tsb_1120_896_448_1x_5scale",
}
