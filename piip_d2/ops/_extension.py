"""Loads the compiled operators, and knows which there are.

Obeyed when :mod:`piip_d2.ops` is imported: ``PIIP_D2_DISABLE_EXTENSION=1`` leaves them unloaded, so
that the PyTorch reference does their work; ``PIIP_D2_EXTENSION_DIR`` names another folder to load
them from.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_REFERENCE = "The slower PyTorch reference does its work, with the same results."
_HOW_TO_BUILD = (
    "To compile it, go where the sources of piip_d2 are and run: "
    "PIIP_D2_BUILD=required pip install --no-build-isolation -e ."
)


def has_extension(device: str | torch.device = "cpu") -> bool:
    """Tells whether the compiled operators are loaded for a kind of device.

    Without them every operator runs on its plain PyTorch reference, with the same results.

    Args:
        device: "cpu", "cuda", or a device of such a kind.

    Returns:
        True also if no such device is seen.
    """
    return torch.device(device).type in _loaded


def _load_all() -> frozenset[str]:
    """Loads what there is; says once what is missing."""
    if os.environ.get("PIIP_D2_DISABLE_EXTENSION") == "1":
        return frozenset()
    if not _load("_C", wanted=True):
        return frozenset()
    # device_count() leaves processes free to fork, where is_available() need not.
    has_cuda = torch.version.cuda is not None
    if has_cuda and _load("_C_cuda", wanted=torch.cuda.device_count() > 0):
        return frozenset({"cpu", "cuda"})
    return frozenset({"cpu"})


def _load(name: str, wanted: bool) -> bool:
    """Imports ``piip_d2.<name>``, which registers its operators.

    Args:
        name: File name without suffixes.
        wanted: Whether to say so if it is missing.

    Returns:
        Whether it is there and could be loaded; that it could not is always said.
    """
    folder = os.environ.get("PIIP_D2_EXTENSION_DIR") or str(Path(__file__).resolve().parents[1])
    module_name = f"piip_d2.{name}"
    spec = PathFinder.find_spec(module_name, [folder])
    if spec is None or spec.loader is None:
        if wanted:
            logger.warning("%s is not in %s. %s %s", module_name, folder, _REFERENCE, _HOW_TO_BUILD)
        return False
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        logger.warning(
            "%s cannot be loaded: %s. %s %s", module_name, error, _REFERENCE, _HOW_TO_BUILD
        )
        return False
    sys.modules[module_name] = module
    return True


_loaded = _load_all()
