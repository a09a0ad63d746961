"""Evaluators: COCO's and LVIS' numbers for boxes and masks, and the tables that show them.

Names are resolved on first use: the tables need nothing but ``tabulate``, the rest needs
Detectron2.
"""

from __future__ import annotations

import importlib

_PUBLIC_NAMES = {
    "PIIPCOCOEvaluator": "coco",
    "PIIPLVISEvaluator": "lvis",
    "per_class_table": "tables",
    "results_table": "tables",
}

__all__ = list(_PUBLIC_NAMES)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
