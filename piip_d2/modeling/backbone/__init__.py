"""The PIIP network and its parts. Needs PyTorch and timm."""

from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.build import build_network, build_network_parts
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
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
from piip_d2.modeling.backbone.presets import (
    BRANCH_PRESETS,
    VIT_PRESETS,
    BranchPreset,
    build_branch,
    build_vit_branch,
)
from piip_d2.modeling.backbone.timm_branch import TimmBranch
from piip_d2.modeling.backbone.timm_stem import TimmStem
from piip_d2.modeling.backbone.transformer_branch import TransformerBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch
from piip_d2.modeling.backbone.vit_block import ViTBlock, build_vit_block

__all__ = [
    "BRANCH_PRESETS",
    "VIT_PRESETS",
    "BEiTBranch",
    "Branch",
    "BranchMerge",
    "BranchPreset",
    "ConvNeXtBranch",
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
    "TimmBranch",
    "TimmStem",
    "TransformerBranch",
    "UniPerceiverBranch",
    "UnmergedBranch",
    "ViTBlock",
    "ViTBranch",
    "build_branch",
    "build_interactions",
    "build_network",
    "build_network_parts",
    "build_vit_block",
    "build_vit_branch",
]
