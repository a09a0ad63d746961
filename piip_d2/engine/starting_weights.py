"""Checks of the weights that a run is to start from, before its model is built.

To build a large model takes minutes, and a wrong path is known at once.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from piip_d2.checkpoint.branch_weights import check_network_weights
from piip_d2.checkpoint.reading import check_has_weights, check_is_there, unreadable
from piip_d2.data.typed_values import is_typed
from piip_d2.engine.pretrained import PREFIX

# Formats of Detectron2 whose names cannot be read without running what the file says.
_PICKLES = (".pkl", ".pyth")


def check_starting_weights(cfg: DictConfig) -> None:
    """Checks ``train.branch_weights`` and ``train.init_checkpoint``.

    Args:
        cfg: The configuration.

    Raises:
        ValueError: If there are too many or too few, or if some are not there or cannot be read.
    """
    if cfg.train.branch_weights:
        check_network_weights(cfg.train.branch_weights, count_branches(cfg.model))
    check_initial_checkpoint(cfg.train.init_checkpoint)


def check_initial_checkpoint(path: str) -> None:
    """Checks that a checkpoint is there, and that its names can be read; their values are not.

    Args:
        path: A file or an address, as for Detectron2's checkpointer; "" needs no check.

    Raises:
        CheckpointReadError: If it is not.
    """
    if not path:
        return
    check_is_there(path, PathManager.get_local_path)
    file = PathManager.get_local_path(urlparse(path)._replace(query="").geturl())
    if file.endswith(_PICKLES):
        return
    try:
        loaded = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except Exception as error:  # unpickling arbitrary bytes raises nearly anything
        raise unreadable(path, error) from error
    check_has_weights(path, loaded)


def check_weights_of_detector(cfg: DictConfig) -> None:
    """Checks that ``train.init_checkpoint`` can name the weights of a whole, trained detector.

    Args:
        cfg: The configuration.

    Raises:
        ValueError: If it is empty, unless it was typed so, or names weights that only a training
            starts from.
    """
    section = OmegaConf.select(cfg, "train") or OmegaConf.create()
    path = section.get("init_checkpoint") or ""
    if path and not path.startswith(PREFIX):
        return
    if not path and is_typed(section, "init_checkpoint"):
        return
    problem = (
        f"{path} is what a training starts from, not a trained detector; give the weights of one"
        if path
        else "there are no weights, as train.init_checkpoint is empty; give some"
    )
    # A key that is not there has to be added.
    override = f"{'' if 'init_checkpoint' in section else '+'}train.init_checkpoint="
    raise ValueError(
        f"{problem}, such as train.init_checkpoint={_example(section)}. Random weights have to be "
        f"asked for, by the override {override} with nothing behind it"
    )


def count_branches(model: DictConfig) -> int | None:
    """Counts the branches that a model will have, if its configuration lists those of one pyramid.

    Args:
        model: The model's part of a configuration.

    Returns:
        Their number; None where there is no such list, or more than one.
    """
    lengths = list(_branch_lists(OmegaConf.to_container(model, resolve=False)))
    return lengths[0] if len(lengths) == 1 else None


def _example(section: DictConfig) -> Path:
    """Returns a checkpoint of the run whose configuration it is, if that run left one."""
    folder = Path(section.get("output_dir") or "output")
    # An evaluation alone writes into a sub-folder of the run.
    run = folder.parent if folder.name == "evaluation" else folder
    files = [run / "model_best.pth", run / "model_final.pth"]
    return next((file for file in files if file.is_file()), Path("model_final.pth"))


def _branch_lists(node: Any) -> Iterator[int]:
    if isinstance(node, Mapping):
        if isinstance(node.get("branches"), list):
            yield len(node["branches"])
        for child in node.values():
            yield from _branch_lists(child)
    elif isinstance(node, list):
        for child in node:
            yield from _branch_lists(child)
