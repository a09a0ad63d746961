"""The PIIP network and its parts. Needs PyTorch and timm."""

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.build import build_network, build_network_parts
from piip_d2.modeling.backbone.feature_maps import FeatureMaps, StageFeatureMaps
from piip_d2.modeling.backbone.interaction import (
    CrossBranchAttention,
    InteractionStage,
    InteractionUnit,
    build_interactions,
)
from piip_d2.modeling.backbone.merge import (
    BranchMerge,
    LightBranchMerge,
    SingleConvBranchMerge,
    UnmergedBranch,
)
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.patch_embed import ConvStem, PatchEmbed
from piip_d2.modeling.backbone.presets import VIT_PRESETS, build_vit_branch
from piip_d2.modeling.backbone.timm_stem import TimmStem
from piip_d2.modeling.backbone.vit import ViTBranch

__all__ = [
    "VIT_PRESETS",
    "Branch",
    "BranchMerge",
    "ConvStem",
    "CrossBranchAttention",
    "FeatureMaps",
    "InteractionStage",
    "InteractionUnit",
    "LightBranchMerge",
    "PIIPNetwork",
    "PatchEmbed",
    "SingleConvBranchMerge",
    "StageFeatureMaps",
    "TimmStem",
    "UnmergedBranch",
    "ViTBranch",
    "build_interactions",
    "build_network",
    "build_network_parts",
    "build_vit_branch",
]
