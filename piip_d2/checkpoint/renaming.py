"""Renames the keys of a state dict by tables of patterns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value")
Replacement = str | Callable[[re.Match[str]], str]
Rule = tuple[str | re.Pattern[str], Replacement]
Pair = tuple[str, str]
"""The beginnings of two names for the same weights; ``*`` stands for a number in both."""


class UnknownKeysError(KeyError, ValueError):
    """Keys that fit no rule; for callers that take any bad input for one kind of error too."""

    def __str__(self) -> str:
        # A KeyError puts its message in quotation marks, as it were the key.
        return str(self.args[0])


def rules_of(pairs: Iterable[Pair]) -> list[Rule]:
    """Makes rules that replace the first beginning of every pair by the second.

    Args:
        pairs: Pairs whose names end where a part of a key ends, the longer ones first where one
            begins like another.

    Returns:
        Rules for :func:`rename_keys`.
    """
    return [(_pattern(before), _template(after)) for before, after in pairs]


def turned(pairs: Iterable[Pair]) -> list[Pair]:
    """Returns the pairs of the way back."""
    return [(after, before) for before, after in pairs]


def rename_keys(state_dict: Mapping[str, Value], rules: Sequence[Rule]) -> dict[str, Value]:
    """Renames every key by the first rule that fits it.

    Args:
        state_dict: Tensors by name.
        rules: Pairs of a regular expression, matched from the start of a key, and its replacement.
            What the expression leaves over at the end of a key is kept.

    Returns:
        The same tensors under their new names.

    Raises:
        UnknownKeysError: If a key fits no rule; all such keys are counted.
        ValueError: If two keys get the same name.
    """
    renamed, unknown = rename_known(state_dict, rules)
    check_known(unknown)
    return renamed


def rename_known(
    state_dict: Mapping[str, Value], rules: Sequence[Rule]
) -> tuple[dict[str, Value], list[str]]:
    """Renames as :func:`rename_keys` the keys that fit a rule, and lists the others.

    Args:
        state_dict: Anything by name.
        rules: See there.

    Returns:
        What fits, under its new names, and the keys that do not.

    Raises:
        ValueError: If two keys get the same name.
    """
    compiled = [(re.compile(pattern).match, replacement) for pattern, replacement in rules]
    renamed: dict[str, Value] = {}
    unknown = []
    for key, value in state_dict.items():
        name = _first_match(key, compiled)
        if name is None:
            unknown.append(key)
        elif name in renamed:
            raise ValueError(f"two keys become {name!r}, the second is {key!r}")
        else:
            renamed[name] = value
    return renamed, unknown


def check_known(unknown: Sequence[str]) -> None:
    """Raises :class:`UnknownKeysError` if there are keys that fit no rule."""
    if unknown:
        raise UnknownKeysError(
            f"{len(unknown)} keys are unknown, among them {list(unknown[:5])}; is this a "
            "checkpoint of another model?"
        )


def _first_match(
    key: str, rules: Sequence[tuple[Callable[[str], re.Match[str] | None], Replacement]]
) -> str | None:
    for match_start, replacement in rules:
        match = match_start(key)
        if match:
            new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            return new + key[match.end() :]
    return None


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", r"(\d+)") + r"(?=\.|$)")


def _template(name: str) -> str:
    pieces = name.split("*")
    filled = [f"{piece}\\g<{number}>" for number, piece in enumerate(pieces[:-1], start=1)]
    return "".join([*filled, pieces[-1]])
