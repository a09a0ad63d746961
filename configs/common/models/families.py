"""Pyramids of networks from other pre-trainings than DeiT's, and of very large ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig

from .branches import branch, check_sizes


class _Network(NamedTuple):
    preset: str
    drop_path_rate: float
    # Whether the released code recomputes its activations.
    use_act_checkpoint: bool = False


# Only the largest two of some pyramids come from the family.
_DEIT_SMALL = _Network("deit3_small", 0.05)
_INTERN_VIT = _Network("intern_vit_6b", 0.4, use_act_checkpoint=True)
_MAE_HUGE = _Network("mae_huge", 0.4, use_act_checkpoint=True)


def deit_384_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III networks pre-trained at 384 pixels; every third block is global."""
    networks = [
        _Network("deit3_small_384", 0.05),
        _Network("deit3_base_384", 0.15),
        _Network("deit3_large_384", 0.4),
    ]
    branches = _pyramid(networks, img_sizes, **options)
    for one in branches:
        one.window_size = [24, 24, None] * (one.depth // 3)
    return branches


def augreg_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of AugReg networks pre-trained at 384 pixels."""
    networks = [
        _Network("augreg_small_384", 0.2, use_act_checkpoint=True),
        _Network("augreg_base_384", 0.3, use_act_checkpoint=True),
        _Network("augreg_large_384", 0.4, use_act_checkpoint=True),
    ]
    return _windowed(networks, img_sizes, **options)


def beit_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, BEiTv2-B and BEiTv2-L."""
    networks = [_DEIT_SMALL, _Network("beitv2_base", 0.15), _Network("beitv2_large", 0.4)]
    return _windowed(networks, img_sizes, **options)


def dinov2_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DINOv2 networks, with patches of 16 pixels in the place of 14."""
    networks = [
        _Network("dinov2_small", 0.2, use_act_checkpoint=True),
        _Network("dinov2_base", 0.3, use_act_checkpoint=True),
        _Network("dinov2_large", 0.4, use_act_checkpoint=True),
    ]
    return _windowed(networks, img_sizes, **options)


def mae_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, MAE-B and MAE-L."""
    networks = [
        _DEIT_SMALL,
        _Network("mae_base", 0.15, use_act_checkpoint=True),
        _Network("mae_large", 0.4, use_act_checkpoint=True),
    ]
    return _windowed(networks, img_sizes, **options)


def uniperceiver_sbl(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-SBL of DeiT III-S, Uni-Perceiver-B and Uni-Perceiver-L."""
    networks = [
        _DEIT_SMALL,
        _Network("uniperceiver_base", 0.15),
        _Network("uniperceiver_large", 0.4),
    ]
    return _windowed(networks, img_sizes, **options)


def intern_vit_6b(img_size: int, **options: Any) -> list[DictConfig]:
    """InternViT-6B alone, with global attention."""
    return _pyramid([_INTERN_VIT], [img_size], **options)


def h6b(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-H6B: MAE-H and InternViT-6B with global attention."""
    return _pyramid([_MAE_HUGE, _INTERN_VIT], img_sizes, **options)


def lh6b(img_sizes: Sequence[int], **options: Any) -> list[DictConfig]:
    """PIIP-LH6B: DeiT III-L pre-trained at 384 pixels, MAE-H and InternViT-6B, all global."""
    return _pyramid(
        [_Network("deit3_large_384", 0.4), _MAE_HUGE, _INTERN_VIT], img_sizes, **options
    )


def _windowed(
    networks: Sequence[_Network], img_sizes: Sequence[int], **options: Any
) -> list[DictConfig]:
    return _pyramid(networks, img_sizes, window_size=28, **options)


def _pyramid(
    networks: Sequence[_Network], img_sizes: Sequence[int], **options: Any
) -> list[DictConfig]:
    check_sizes(len(networks), img_sizes)
    return [
        branch(**network._asdict(), img_size=img_size, **options)
        for network, img_size in zip(networks, img_sizes, strict=True)
    ]
