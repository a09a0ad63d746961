"""Pyramids of networks from other pre-trainings than DeiT's, and of very large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from .branches import published


def deit_384_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III networks pre-trained at 384 pixels; every third block is global."""
    return published("piip_sbl_384", img_sizes, **options)


def augreg_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of AugReg networks pre-trained at 384 pixels."""
    return published("piip_sbl_augreg", img_sizes, **options)


def beit_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, BEiTv2-B and BEiTv2-L."""
    return published("piip_sbl_beit", img_sizes, **options)


def dinov2_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DINOv2 networks, with patches of 16 pixels in the place of 14."""
    return published("piip_sbl_dinov2", img_sizes, **options)


def mae_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, MAE-B and MAE-L."""
    return published("piip_sbl_mae", img_sizes, **options)


def uniperceiver_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, Uni-Perceiver-B and Uni-Perceiver-L."""
    return published("piip_sbl_uniperceiver", img_sizes, **options)


def intern_vit_6b(img_size: int, **options: Any) -> list[DictConfig]:
    """InternViT-6B alone, with global attention."""
    return published("intern_vit_6b", [img_size], **options)


def h6b(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-H6B: MAE-H and InternViT-6B with global attention."""
    return published("piip_h6b", img_sizes, **options)


def lh6b(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-LH6B: DeiT III-L pre-trained at 384 pixels, MAE-H and InternViT-6B, all global."""
    return published("piip_lh6b", img_sizes, **options)
