"""Branches by the name of their network, and the pyramids of DeiT by the initials of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.modeling.backbone.presets import BRANCH_PRESETS
from piip_d2.modeling.backbone.zoo import DEIT, find_structure


def branch(preset: str, img_size: int, **options: Any) -> DictConfig:
    """Any network of :data:`piip_d2.modeling.backbone.presets.BRANCH_PRESETS`.

    Args:
        preset: Its name.
        img_size: Nominal image side in pixels.
        **options: Further arguments of its class, which also replace the preset's.

    Raises:
        ValueError: If there is no such network.
    """
    if preset not in BRANCH_PRESETS:
        raise ValueError(f"no network named {preset!r}; there are {', '.join(BRANCH_PRESETS)}")
    found = BRANCH_PRESETS[preset]
    return L(found.branch_type)(img_size=img_size, **{**found.options, **options})


def vit_tiny(img_size: int, **options: Any) -> DictConfig:
    """ViT-Ti; the released models start from DeiT-Ti (deit_tiny_patch16_224-a1311bcf.pth)."""
    return branch(DEIT["t"].preset, img_size, **{**DEIT["t"].options, **options})


def vit_small(img_size: int, **options: Any) -> DictConfig:
    """ViT-S; the released models start from DeiT III-S (deit_3_small_224_21k.pth)."""
    return branch(DEIT["s"].preset, img_size, **{**DEIT["s"].options, **options})


def vit_base(img_size: int, **options: Any) -> DictConfig:
    """ViT-B; the released models start from DeiT III-B (deit_3_base_224_21k.pth)."""
    return branch(DEIT["b"].preset, img_size, **{**DEIT["b"].options, **options})


def vit_large(img_size: int, **options: Any) -> DictConfig:
    """ViT-L; the released models start from DeiT III-L (deit_3_large_224_21k.pth)."""
    return branch(DEIT["l"].preset, img_size, **{**DEIT["l"].options, **options})


def published(name: str, img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """The branches of a published network.

    Args:
        name: A name in :data:`piip_d2.modeling.backbone.zoo.STRUCTURES`.
        img_sizes: Their resolutions in pixels, largest first.
        **options: Further arguments of all branches, which also replace the published ones.
    """
    branches = find_structure(name).branches
    check_sizes(len(branches), img_sizes)
    return [
        branch(one.preset, img_size, **{**one.options, **options})
        for one, img_size in zip(branches, img_sizes, strict=True)
    ]


def deit(initials: str, img_sizes: Sequence[int], *, window_size: int) -> list[DictConfig]:
    """Any pyramid of DeiT branches with one window size.

    Args:
        initials: Sizes of the networks, largest resolution first: "tsb".
        img_sizes: Their resolutions in pixels.
        window_size: Side of the attention windows in cells.

    Raises:
        ValueError: If there are not as many sizes as branches, or an initial is unknown.
    """
    makers = {"t": vit_tiny, "s": vit_small, "b": vit_base, "l": vit_large}
    if not set(initials) <= set(makers):
        raise ValueError(f"initials must be some of {', '.join(makers)}, got {initials!r}")
    check_sizes(len(initials), img_sizes)
    return [
        makers[initial](img_size, window_size=window_size)
        for initial, img_size in zip(initials, img_sizes, strict=True)
    ]


def tsb(img_sizes: Sequence[int]) -> list[DictConfig]:
    """PIIP-TSB: Tiny, Small and Base, largest resolution first."""
    return published("piip_tsb", img_sizes)


def sbl(img_sizes: Sequence[int]) -> list[DictConfig]:
    """PIIP-SBL: Small, Base and Large, largest resolution first."""
    return published("piip_sbl", img_sizes)


def tsbl(img_sizes: Sequence[int], *, as_released: bool = False) -> list[DictConfig]:
    """PIIP-TSBL: Tiny, Small, Base and Large, largest resolution first.

    Args:
        img_sizes: Resolutions in pixels.
        as_released: Whether to repeat the Small network in the place of the Tiny one. The released
            code does so against its own configurations, and so do the weights that it trained.
    """
    return published("piip_tsbl_as_released" if as_released else "piip_tsbl", img_sizes)


def check_sizes(num_branches: int, img_sizes: Sequence[int]) -> None:
    """Raises ValueError unless there is one size per branch."""
    if len(img_sizes) != num_branches:
        raise ValueError(f"needs {num_branches} image sizes, one per branch, got {list(img_sizes)}")
