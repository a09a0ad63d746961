"""``key=value`` arguments, checked before they change a configuration."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from piip_d2.data.typed_values import mark_as_typed

# An interpolation that is nothing but another key, seen from its own place after dots.
_ONE_KEY = re.compile(r"\$\{(?P<dots>\.*)(?P<key>[\w.]+)\}")
# Besides True and False they take the name of a mode; what has them refuses all else.
_SWITCHES_WITH_MODES = ("activation_checkpointing", "act_checkpoint")


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Changes a configuration in place by Detectron2's rules, but refuses unknown keys.

    A key is known if the configuration has it, or if it names an argument of the class or function
    that its section calls. ``+key=value`` adds any key. Values that are no valid YAML-like
    expression are taken as they stand where the present value is a string.

    Args:
        cfg: The configuration.
        overrides: Strings ``path.to.key=value``.

    Returns:
        The configuration.

    Raises:
        ValueError: If an override is malformed, its key is unknown or a whole section, or its value
            is none where the configuration has a number or a truth value.
    """
    for text in overrides:
        override = _parse(text, cfg)
        key = override.key_or_group
        if override.is_delete():
            raise ValueError(f"{text!r}: keys cannot be deleted; set {key}=null instead")
        if not override.is_add():
            _check_key(cfg, key, override.value())
        LazyConfig.apply_overrides(cfg, [override.input_line])
        mark_as_typed(cfg, key)
    return cfg


def _parse(text: str, cfg: DictConfig) -> Override:
    if text.startswith("-"):
        raise ValueError(f"the option {text!r} must stand before all key=value arguments")
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        raise ValueError(f"{text!r} is no override; write path.to.key=value")
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(text)
    except HydraException as error:
        return _literal(key, value, cfg, f"its value cannot be parsed ({_first_line(error)})")
    if override.is_sweep_override():
        return _literal(key, value, cfg, "a list is written in brackets, key=[first,second]")
    return override


def _literal(key: str, value: str, cfg: DictConfig, problem: str) -> Override:
    """Takes a value as a plain string, where a string is what the key has."""
    if not isinstance(_node(_plain(cfg), key.lstrip("+").split(".")), str):
        raise ValueError(f"cannot use '{key}={value}': {problem}")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return OverridesParser.create().parse_override(f'{key}="{escaped}"')


def _check_key(cfg: DictConfig, key: str, value: Any) -> None:
    plain = _plain(cfg)
    *parents, last = key.split(".")
    section = _node(plain, parents)
    if isinstance(section, list):
        if not last.isdigit() or int(last) >= len(section):
            raise ValueError(
                f"unknown config key {key!r}: {'.'.join(parents)} is a list of {len(section)}"
            )
        present = section[int(last)]
    elif isinstance(section, Mapping) and last in section:
        present = section[last]
    elif isinstance(section, Mapping) and last in _arguments(section.get("_target_")):
        return
    else:
        raise ValueError(_unknown_key_message(plain, key))
    if isinstance(present, Mapping) and present and not isinstance(value, Mapping | None):
        raise ValueError(
            f"{key!r} is a section and cannot become {value!r}; it has the keys "
            f"{', '.join(map(str, present))}"
        )
    _check_type(key, present, value, is_argument="_target_" in section)


def _check_type(key: str, present: Any, value: Any, *, is_argument: bool) -> None:
    """Compares the type of a value with that of the number or truth value it replaces."""
    # Null often means "none of this", and what an interpolation gives shows later.
    if value is None or (isinstance(value, QuotedString | str) and "${" in str(value)):
        return
    if isinstance(present, bool) and not key.endswith(_SWITCHES_WITH_MODES):
        wanted, fits = "True or False", isinstance(value, bool)
    elif isinstance(present, int | float) and not isinstance(present, bool):
        # A function may well take a list, such as one of sizes, in the place of one number.
        allowed = (int, float, list) if is_argument else (int, float)
        wanted, fits = "a number", isinstance(value, allowed) and not isinstance(value, bool)
    else:
        return
    if not fits:
        raise ValueError(f"{key!r} must be {wanted} as its present value {present}, got {value!r}")


def _unknown_key_message(plain: Any, key: str) -> str:
    known = list(dict.fromkeys(path for path in _paths(plain) if not path.endswith("_target_")))
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.75)
    if not close:
        last = key.rpartition(".")[2]
        close = [path for path in known if path.rpartition(".")[2] == last][:3]
    close = list(dict.fromkeys(_as_hint(path, _followed(plain, path)) for path in close))
    hint = f"did you mean {' or '.join(close)}?" if close else "the saved config.yaml lists all."
    return f"unknown config key {key!r}; {hint} (+{key}=… adds a new key)"


def _as_hint(path: str, followed: str) -> str:
    # Who sets a key that follows another parts the two.
    if path.rpartition(".")[2] == followed.rpartition(".")[2]:
        return followed
    return f"{followed} (which {path} follows)"


def _followed(plain: Any, path: str) -> str:
    """The key whose value a key has by interpolation; itself if its value is written out."""
    visited = [path]
    while target := _pointed_at(plain, visited[-1]):
        if target in visited:
            return path
        visited.append(target)
    return visited[-1]


def _pointed_at(plain: Any, path: str) -> str | None:
    """The key that is all that a key's value names, if there is such a key."""
    parts = path.split(".")
    value = _node(plain, parts)
    match = _ONE_KEY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    # One dot stands for the section of the key, another for the one around it.
    dots = len(match["dots"])
    target = [*(parts[:-dots] if dots else []), *match["key"].split(".")]
    return None if _node(plain, target) is None else ".".join(target)


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    entries: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(node, Mapping):
        entries = iter(node.items())
        if "_target_" in node:
            yield from (f"{prefix}{name}" for name in _arguments(node["_target_"]))
    elif isinstance(node, list):
        entries = iter(enumerate(node))
    for name, value in entries:
        yield f"{prefix}{name}"
        yield from _paths(value, f"{prefix}{name}.")


def _arguments(target: Any) -> set[str]:
    """Returns the names of the arguments that a LazyCall's target takes."""
    if isinstance(target, str):
        target = locate(target)
    if not callable(target):
        return set()
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:  # some builtins tell nothing of their arguments
        return set()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name for parameter in parameters if parameter.kind in named}


def accepts_argument(section: Any, name: str) -> bool:
    """Tells whether a LazyCall has, or its target takes, an argument of this name."""
    if not isinstance(section, Mapping):
        return False
    return name in section or name in _arguments(section.get("_target_"))


def _plain(cfg: DictConfig) -> Any:
    # Without resolving: interpolations may point at what is set only at run time.
    return OmegaConf.to_container(cfg, resolve=False)


def _node(plain: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(plain, list) and part.isdigit() and int(part) < len(plain):
            plain = plain[int(part)]
        elif isinstance(plain, Mapping) and part in plain:
            plain = plain[part]
        else:
            return None
    return plain


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
