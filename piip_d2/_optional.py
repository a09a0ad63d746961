"""The one place that looks up optional packages.

Every other module of the package asks here whether a package can be imported, so that a missing
one leads to the same kind of sentence everywhere.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

_INSTALL_HINTS = {
    "cv2": "pip install opencv-python-headless (or opencv-python, where windows are wanted)",
    "detectron2": "see the installation section of README.md",
    "faster_coco_eval": "pip install faster-coco-eval",
    "piip_d2.configs": "pip install --no-build-isolation -e . in the checkout",
}


@functools.cache
def available(name: str) -> bool:
    """Tells whether the package ``name`` can be imported in this environment."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def require(name: str, purpose: str) -> ModuleType:
    """Imports the optional package ``name``.

    Args:
        name: Name of the package, as in an import statement.
        purpose: What it is needed for; completes the sentence "... is needed for".

    Returns:
        The imported module.

    Raises:
        ImportError: If it cannot be imported; the message says what for and how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = _INSTALL_HINTS.get(name, f"pip install {name.split('.')[0].replace('_', '-')}")
        raise ImportError(
            f"the package {name!r} is needed for {purpose} but cannot be imported ({error}); "
            f"to get it: {hint}"
        ) from error
