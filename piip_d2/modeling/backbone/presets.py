"""The usual networks, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from piip_d2.modeling.backbone.beit import BEiTBranch
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.convnext import ConvNeXtBranch
from piip_d2.modeling.backbone.uniperceiver import UniPerceiverBranch
from piip_d2.modeling.backbone.vit import ViTBranch

VIT_PRESETS: dict[str, dict[str, int]] = {
    "vit_tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "vit_large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}
"""The sizes of DeiT and DeiT III (https://arxiv.org/abs/2204.07118) that PIIP uses."""

_TINY, _SMALL, _BASE, _LARGE = VIT_PRESETS.values()
_HUGE = {"embed_dim": 1280, "depth": 32, "num_heads": 16}


@dataclass(frozen=True)
class BranchPreset:
    """What makes up a usual network.

    Args:
        branch_type: Its class.
        options: Arguments of the class. Image sizes, windows and rates of stochastic depth belong
            to an experiment and are not among them.
    """

    branch_type: type[Branch]
    options: dict[str, Any] = field(default_factory=dict)


def _vit(size: dict[str, int], **options: Any) -> BranchPreset:
    return BranchPreset(ViTBranch, {**size, **options})


def _generic_vit(size: dict[str, int], **options: Any) -> BranchPreset:
    """With the linear stochastic depth of all families but DeiT."""
    return _vit(size, drop_path_schedule="linear", **options)


def _convnext(depths: tuple[int, ...], dims: tuple[int, ...]) -> BranchPreset:
    return BranchPreset(ConvNeXtBranch, {"depths": depths, "dims": dims})


BRANCH_PRESETS: dict[str, BranchPreset] = {
    "vit_tiny": _vit(_TINY),
    "vit_small": _vit(_SMALL),
    "vit_base": _vit(_BASE),
    "vit_large": _vit(_LARGE),
    "vit_huge": _vit(_HUGE),
    "deit_tiny": _vit(_TINY),
    "deit3_small": _vit(_SMALL),
    "deit3_base": _vit(_BASE),
    "deit3_large": _vit(_LARGE),
    "deit3_small_384": _vit(_SMALL, pretrain_img_size=384),
    "deit3_base_384": _vit(_BASE, pretrain_img_size=384),
    "deit3_large_384": _vit(_LARGE, pretrain_img_size=384),
    "augreg_tiny_384": _generic_vit(_TINY, pretrain_img_size=384),
    "augreg_small_384": _generic_vit(_SMALL, pretrain_img_size=384),
    "augreg_base_384": _generic_vit(_BASE, pretrain_img_size=384),
    "augreg_large_384": _generic_vit(_LARGE, pretrain_img_size=384),
    "mae_base": _generic_vit(_BASE),
    "mae_large": _generic_vit(_LARGE),
    "mae_huge": _generic_vit(_HUGE),
    # The table of 37 x 37 places at patches of 14 pixels becomes one of 32 x 32 at 16 pixels.
    "dinov2_small": _generic_vit(_SMALL, pretrain_img_size=518),
    "dinov2_base": _generic_vit(_BASE, pretrain_img_size=518),
    "dinov2_large": _generic_vit(_LARGE, pretrain_img_size=518),
    "beitv2_base": BranchPreset(BEiTBranch, {**_BASE, "init_values": 1e-6}),
    "beitv2_large": BranchPreset(BEiTBranch, {**_LARGE, "init_values": 1e-6}),
    "uniperceiver_base": BranchPreset(UniPerceiverBranch, {**_BASE}),
    "uniperceiver_large": BranchPreset(UniPerceiverBranch, {**_LARGE}),
    "convnext_tiny": _convnext((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": _convnext((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": _convnext((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": _convnext((3, 3, 27, 3), (192, 384, 768, 1536)),
    "intern_vit_6b": _generic_vit(
        {"embed_dim": 3200, "depth": 48, "num_heads": 25},
        qkv_bias=False,
        init_values=0.1,
        norm="rms",
        qk_norm=True,
    ),
}
"""Every network that the released models are made of, and their sisters."""


def build_branch(preset: str, *, img_size: int, **options: Any) -> Branch:
    """Builds a branch of a usual kind.

    Args:
        preset: A name in :data:`BRANCH_PRESETS`.
        img_size: Nominal image side in pixels.
        **options: Further arguments of the preset's class, which also replace the preset's.

    Returns:
        The branch, with random weights.

    Raises:
        ValueError: If there is no such preset.
    """
    if preset not in BRANCH_PRESETS:
        raise ValueError(f"preset must be one of {sorted(BRANCH_PRESETS)}, got {preset!r}")
    found = BRANCH_PRESETS[preset]
    arguments: dict[str, Any] = {**found.options, **options}
    return found.branch_type(img_size=img_size, **arguments)


def build_vit_branch(preset: str, *, img_size: int, **options: Any) -> ViTBranch:
    """Builds a ViT branch of a usual size.

    Args:
        preset: A name in :data:`VIT_PRESETS`.
        img_size: Nominal image side in pixels.
        **options: Further arguments of :class:`ViTBranch`, which also replace the preset's.

    Returns:
        The branch, with random weights.

    Raises:
        ValueError: If there is no such preset.
    """
    if preset not in VIT_PRESETS:
        raise ValueError(f"preset must be one of {sorted(VIT_PRESETS)}, got {preset!r}")
    return cast(ViTBranch, build_branch(preset, img_size=img_size, **options))
