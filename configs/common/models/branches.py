"""ViT branches by size, and the pyramids of the paper by the initials of their branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from piip_d2.modeling.backbone import VIT_PRESETS, ViTBranch


def vit_tiny(img_size: int, **options: Any) -> DictConfig:
    """ViT-Ti; the released models start from DeiT-Ti (deit_tiny_patch16_224-a1311bcf.pth)."""
    return _vit("vit_tiny", img_size, {"drop_path_rate": 0.05, **options})


def vit_small(img_size: int, **options: Any) -> DictConfig:
    """ViT-S; the released models start from DeiT III-S (deit_3_small_224_21k.pth)."""
    return _vit("vit_small", img_size, {"drop_path_rate": 0.05, **options})


def vit_base(img_size: int, **options: Any) -> DictConfig:
    """ViT-B; the released models start from DeiT III-B (deit_3_base_224_21k.pth)."""
    return _vit("vit_base", img_size, {"drop_path_rate": 0.15, **options})


def vit_large(img_size: int, **options: Any) -> DictConfig:
    """ViT-L; the released models start from DeiT III-L (deit_3_large_224_21k.pth)."""
    return _vit("vit_large", img_size, {"drop_path_rate": 0.4, **options})


def tsb(img_sizes: Sequence[int]) -> list[DictConfig]:
    """PIIP-TSB: Tiny, Small and Base, largest resolution first."""
    return _pyramid([vit_tiny, vit_small, vit_base], img_sizes, window_size=14)


def sbl(img_sizes: Sequence[int]) -> list[DictConfig]:
    """PIIP-SBL: Small, Base and Large, largest resolution first."""
    return _pyramid([vit_small, vit_base, vit_large], img_sizes, window_size=28)


def tsbl(img_sizes: Sequence[int]) -> list[DictConfig]:
    """PIIP-TSBL: Tiny, Small, Base and Large, largest resolution first."""
    return _pyramid([vit_tiny, vit_small, vit_base, vit_large], img_sizes, window_size=28)


def _vit(preset: str, img_size: int, options: dict[str, Any]) -> DictConfig:
    return L(ViTBranch)(img_size=img_size, **{**VIT_PRESETS[preset], **options})


def _pyramid(
    makers: Sequence[Callable[..., DictConfig]], img_sizes: Sequence[int], *, window_size: int
) -> list[DictConfig]:
    if len(img_sizes) != len(makers):
        raise ValueError(f"needs {len(makers)} image sizes, one per branch, got {list(img_sizes)}")
    return [
        make(img_size, window_size=window_size)
        for make, img_size in zip(makers, img_sizes, strict=True)
    ]
