"""Chooses the parts of a detector whose activations are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from piip_d2.engine.build import set_activation_checkpointing
from piip_d2.modeling import DINO
from piip_d2.modeling.backbone import PIIPNetwork


def set_act_checkpoint(model: nn.Module, switches: Mapping[str, bool | str]) -> None:
    """Chooses the parts whose activations are recomputed in the backward pass, and how.

    Args:
        model: The detector; changed in place.
        switches: By part, any of ``branches`` and ``interactions``, with DINO also of ``encoder``
            and ``decoder``.

    Raises:
        ValueError: If a part has no such switch.
    """
    modules: dict[str, list[nn.Module]] = {"branches": [], "interactions": []}
    if isinstance(model, DINO):
        modules["encoder"] = [model.transformer.encoder]
        modules["decoder"] = [model.transformer.decoder]
    for network in model.modules():
        if isinstance(network, PIIPNetwork):
            modules["interactions"].append(network)
            modules["branches"] += network.branches.modules()
    unknown = sorted(set(switches) - set(modules))
    if unknown:
        raise ValueError(f"parts to recompute must be of {sorted(modules)}, got {unknown}")
    for part, mode in switches.items():
        set_activation_checkpointing(modules[part], mode)
