"""Results of an evaluation, metrics by task, as files want them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# More numbers than this of single classes would bury the others.
MOST_CLASSES_SHOWN = 100

_OF_ONE_CLASS = "AP-"


def without_nan(value: Any) -> Any:
    """Replaces NaN, which JSON does not know, by None, in dicts and lists too."""
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    if isinstance(value, float) or hasattr(value, "item"):
        return None if math.isnan(value) else float(value)
    return value


def without_many_classes(results: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out the metrics of single classes, such as "AP-cat", of tasks that have many.

    Args:
        results: Metrics by task; tasks may stand one level deeper, under a name.

    Returns:
        The other metrics, and those of tasks with at most 100 classes.
    """
    shown: dict[str, Any] = {}
    num_classes = sum(str(name).startswith(_OF_ONE_CLASS) for name in results)
    for name, value in results.items():
        if isinstance(value, Mapping):
            shown[name] = without_many_classes(value)
        elif num_classes <= MOST_CLASSES_SHOWN or "-" not in name:
            shown[name] = value
    return shown
