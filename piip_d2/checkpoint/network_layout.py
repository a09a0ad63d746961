"""How the reference would name one of our networks."""

from __future__ import annotations

from typing import cast

from piip_d2.checkpoint.backbone_weights import ReferenceLayout
from piip_d2.checkpoint.reference_limits import check_expressible
from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch


def layout_of_network(network: PIIPNetwork) -> ReferenceLayout:
    """Tells how the reference names the weights of one of our networks.

    Args:
        network: The network.

    Returns:
        The families of its branches and what is stored beside them.

    Raises:
        ValueError: If the reference cannot build such a network.
    """
    families = tuple(official_family(branch) for branch in _branches(network))
    check_expressible(network, families)
    makes_maps_at_the_end = len(network.stage_merges) == 0
    return ReferenceLayout(
        families,
        single=len(families) == 1,
        has_unused_upsampler=len(families) == 3
        and makes_maps_at_the_end
        and "res2" not in network.feature_maps.strides,
    )


def official_family(branch: Branch) -> str:
    """Names the reference's class for a branch.

    Of its two for plain vision transformers, one is DeiT's and drops all paths at the same rate;
    the other (InternViT, AugReg, MAE, DINOv2) lets the rate grow with depth.

    Args:
        branch: The branch.

    Returns:
        The name of the class.

    Raises:
        ValueError: If it has none.
    """
    if type(branch) is ViTBranch:
        return "vit_models" if branch.drop_path_schedule == "constant" else "InternViT6B"
    for kind, name in (
        (BEiTBranch, "BEiT"),
        (UniPerceiverBranch, "UnifiedBertEncoder"),
        (ConvNeXtBranch, "ConvNextHFWrapper"),
    ):
        if isinstance(branch, kind):
            return name
    raise ValueError(f"the reference has no branches of the kind {type(branch).__name__}")


def _branches(network: PIIPNetwork) -> list[Branch]:
    return [cast(Branch, branch) for branch in network.branches]
