"""Values of a config that someone typed, rather than took from the config file."""

from __future__ import annotations

from omegaconf import DictConfig, ListConfig, Node, OmegaConf

__all__ = ["is_typed", "mark_as_typed"]

# A flag of a value is copied with the config, but not written into the YAML of a run.
_FLAG = "typed"


def mark_as_typed(cfg: DictConfig, key: str) -> None:
    """Remembers in a config that the value of a key was typed.

    Args:
        cfg: The config.
        key: The key, its parts joined by dots; it must be there.
    """
    parent, _, last = key.rpartition(".")
    node = _value_node(OmegaConf.select(cfg, parent) if parent else cfg, last)
    if node is not None:
        node._set_flag(_FLAG, True)


def is_typed(section: DictConfig | ListConfig, key: str) -> bool:
    """Tells whether the value of a key was typed.

    Args:
        section: The section of the config that has the key.
        key: Its name there.

    Returns:
        Whether it was; False for one that is not there.
    """
    node = _value_node(section, key)
    return node is not None and bool(node._get_node_flag(_FLAG))


def _value_node(section: object, key: str) -> Node | None:
    node = section._get_node(key) if isinstance(section, DictConfig) else None
    return node if isinstance(node, Node) else None
