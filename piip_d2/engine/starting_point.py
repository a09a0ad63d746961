"""What a run begins with: the last checkpoint, given weights, or random ones."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from piip_d2._atomic_file import remove_unfinished
from piip_d2.checkpoint.branch_weights import load_network_weights
from piip_d2.engine.build import build_whole_model
from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.fully_sharded import is_sharded, scatter_weights
from piip_d2.engine.sharded_checkpointer import remove_unfinished_folders

logger = logging.getLogger(__name__)


def load_start(
    cfg: DictConfig, checkpointer: AtomicCheckpointer, *, resume: bool
) -> dict[str, Any]:
    """Loads what the run starts from; all processes call it.

    Args:
        cfg: The configuration.
        checkpointer: Of the model, and of what else a resumed run needs.
        resume: Whether to go on from the last checkpoint in the output folder, if there is one.

    Returns:
        What is left of the checkpoint, such as its metadata.
    """
    folder = cfg.train.output_dir
    if comm.is_main_process():
        remove_unfinished(folder)
        remove_unfinished_folders(folder)
    if resume:
        saved = checkpointer.resume()
        if saved is not None:
            return saved
        logger.info("There is no checkpoint in %s to resume from.", folder)
    if is_sharded(checkpointer.model):
        return _initialize_shares(cfg, checkpointer.model)
    return _initialize(cfg, checkpointer)


def _initialize_shares(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Lets the first process make the whole model in the memory of its CPU, and hand it out."""
    metadata, weights = None, {}
    if comm.is_main_process():
        whole = build_whole_model(cfg)
        metadata = _initialize(cfg, AtomicCheckpointer(whole)).get("metadata")
        weights = whole.state_dict()
    scatter_weights(weights, model)
    return {"metadata": comm.all_gather(metadata)[0]}


def _initialize(cfg: DictConfig, checkpointer: AtomicCheckpointer) -> dict[str, Any]:
    # What is the same in an initial checkpoint comes from there.
    if cfg.train.branch_weights:
        load_network_weights(checkpointer.model, cfg.train.branch_weights)
    if cfg.train.init_checkpoint:
        return checkpointer.load_for(
            "initialize",
            cfg.train.init_checkpoint,
            prefer_average=cfg.train.ema.evaluate != "model",
        )
    logger.info(
        "Training starts from scratch%s (train.init_checkpoint is empty).",
        " but for branches" if any(cfg.train.branch_weights) else "",
    )
    return {}
