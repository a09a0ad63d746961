"""PIIP, Parameter-Inverted Image Pyramid Networks, for Detectron2.

Papers: https://arxiv.org/abs/2406.04330 (NeurIPS 2024), https://arxiv.org/abs/2501.07783.

Importing this package is cheap: its public names are resolved on first use, so that
``piip_d2.ops`` and ``piip_d2.layers`` need torch alone.
"""

from __future__ import annotations

import importlib

from piip_d2._optional import require

__version__ = "0.1.0"

_PUBLIC_NAMES = {
    "PIIP": "piip_d2.modeling",
    "PIIPFPN": "piip_d2.modeling",
    "PIIPNetwork": "piip_d2.modeling.backbone",
    "Predictor": "piip_d2.predictor",
    "build_backbone": "piip_d2.backbones",
    "get_config": "piip_d2.configs",
    "list_backbones": "piip_d2.backbones",
    "list_configs": "piip_d2.configs",
    "ms_deform_attn": "piip_d2.ops",
    "ms_deform_attn_fused": "piip_d2.ops",
}
# What may be lacking, so that a sentence can say so.
_NEEDS = {
    **dict.fromkeys(("PIIP", "PIIPFPN", "Predictor"), ("detectron2",)),
    **dict.fromkeys(("get_config", "list_configs"), ("detectron2", "piip_d2.configs")),
}

__all__ = ["__version__", *_PUBLIC_NAMES]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in _NEEDS.get(name, ()):
        require(package, f"piip_d2.{name}")
    return getattr(importlib.import_module(_PUBLIC_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
