"""Sizes of the usual networks, by name."""

from __future__ import annotations

from typing import Any

from piip_d2.modeling.backbone.vit import ViTBranch

VIT_PRESETS: dict[str, dict[str, int]] = {
    "vit_tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "vit_large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}
"""The sizes of DeiT and DeiT III (https://arxiv.org/abs/2204.07118) that PIIP uses."""


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
    arguments: dict[str, Any] = {**VIT_PRESETS[preset], **options}
    return ViTBranch(img_size=img_size, **arguments)
