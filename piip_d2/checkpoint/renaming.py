"""Renames the keys of a state dict by a table of patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Replacement = str | Callable[[re.Match[str]], str]
Rule = tuple[str, Replacement]


def rename_keys(state_dict: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Renames every key by the first rule that fits it.

    Args:
        state_dict: Tensors by name.
        rules: Pairs of a regular expression, matched from the start of a key, and its replacement.
            What the expression leaves over at the end of a key is kept.

    Returns:
        The same tensors under their new names.

    Raises:
        KeyError: If a key fits no rule; all such keys are named.
        ValueError: If two keys get the same name.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in state_dict.items():
        name = _first_match(key, compiled)
        if name is None:
            unknown.append(key)
        elif name in renamed:
            raise ValueError(f"two keys become {name!r}, the second is {key!r}")
        else:
            renamed[name] = tensor
    if unknown:
        raise KeyError(
            f"{len(unknown)} keys are unknown, among them {unknown[:5]}; is this a checkpoint of "
            "another model?"
        )
    return renamed


def _first_match(key: str, rules: Sequence[tuple[re.Pattern[str], Replacement]]) -> str | None:
    for pattern, replacement in rules:
        if pattern.match(key):
            return pattern.sub(replacement, key, count=1)
    return None
