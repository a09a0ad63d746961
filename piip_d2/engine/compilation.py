"""Compiling the backbone of a detector."""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig
from torch import nn

from piip_d2.modeling.backbone import PIIPNetwork

logger = logging.getLogger(__name__)


def compile_backbone(
    model: nn.Module,
    *,
    backend: str = "inductor",
    mode: str = "default",
    dynamic: bool | None = None,
) -> int:
    """Lets ``torch.compile`` make one graph of every PIIP within a model, in place.

    Names of weights, checkpoints and hooks around the network stay as they are. Heads are left
    alone: how many objects they deal with differs from image to image.

    Args:
        model: A detector or a network.
        backend: Compiler, see :func:`torch.compile`, like the next two.
        mode: ``"default"``, ``"reduce-overhead"`` (CUDA graphs) or ``"max-autotune"``.
        dynamic: True makes one graph for all sizes of images, False one for each; None begins with
            the first size and turns dynamic at the second.

    Returns:
        How many networks there are.
    """
    networks = [module for module in model.modules() if isinstance(module, PIIPNetwork)]
    # A compiler that is no inductor knows no modes.
    options: dict[str, Any] = {} if mode == "default" else {"mode": mode}
    for network in networks:
        network.compile(fullgraph=True, backend=backend, dynamic=dynamic, **options)
    return len(networks)


def compile_as_configured(cfg: DictConfig, model: nn.Module) -> None:
    """Compiles the backbone if ``train.compile.enabled`` says so.

    Args:
        cfg: The configuration.
        model: The detector; changed in place.
    """
    options = dict(cfg.train.compile)
    if not options.pop("enabled"):
        return
    if compile_backbone(model, **options):
        logger.info("The backbone is compiled at its first image, which takes minutes.")
    else:
        logger.warning("train.compile.enabled is on, but this model has no PIIP to compile.")
