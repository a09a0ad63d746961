"""Comparing the weights in a file with those of a model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)

_EXAMPLES = 4


@dataclass(frozen=True)
class _Match:
    fitting: list[str]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]


def check_weights(
    weights: Mapping[str, Any], model: nn.Module, purpose: str, folder: str = ""
) -> None:
    """Checks that weights fit a model well enough for what they are wanted for.

    Args:
        weights: Arrays by name.
        model: The model.
        purpose: "initialize" wants at least one fitting weight, "evaluate" all parameters,
            "resume" all weights and no others.
        folder: The folder of the run to resume.

    Raises:
        ValueError: If they do not; the message shows names of both sides.
    """
    match = _match(weights, model)
    wrong = match.missing + match.unexpected + match.misshapen
    if purpose == "resume" and wrong:
        away = f" or move the folder {folder} away" if folder else ""
        raise ValueError(
            f"the checkpoint is of another model than the one to resume ({len(wrong)} weights "
            f"differ: {_some(wrong)}). To train the present model anew, start without "
            f"--resume{away}; to begin with the weights that fit, give the checkpoint as "
            "train.init_checkpoint besides"
        )
    if not match.fitting:
        raise _nothing_fits(weights, model)
    _check_complete(match.missing + match.misshapen, model, purpose)


def check_loaded(
    missing: Sequence[str], given: Sequence[str], model: nn.Module, purpose: str
) -> None:
    """Checks that enough was loaded, where Detectron2 has matched the names.

    Args:
        missing: Weights of the model that were not loaded.
        given: Names of the weights in the checkpoint.
        model: The model.
        purpose: "initialize" or "evaluate", as in :func:`check_weights`.

    Raises:
        ValueError: If it was not.
    """
    if {name for name, _ in model.named_parameters()} <= set(missing):
        raise _nothing_fits(given, model)
    _check_complete(missing, model, purpose)


def summarize_match(incompatible: Any, total: int) -> None:
    """Logs in one line how much of a model was loaded.

    Args:
        incompatible: What fvcore's checkpointer returns from loading.
        total: Number of weights and buffers of the model.
    """
    missing = len(incompatible.missing_keys)
    misshapen = len(incompatible.incorrect_shapes)
    unexpected = len(incompatible.unexpected_keys)
    # fvcore takes what has another shape out of the file, so it counts as missing too.
    logger.log(
        logging.WARNING if missing + unexpected else logging.INFO,
        "Loaded %d of %d weights and buffers; %d are missing in the checkpoint, %d have another "
        "shape there, %d of the checkpoint are not in the model.",
        total - missing,
        total,
        missing - misshapen,
        misshapen,
        unexpected,
    )


def _nothing_fits(names: Collection[str], model: nn.Module) -> ValueError:
    return ValueError(
        f"none of the {len(names)} weights in the checkpoint fits the model. The checkpoint has "
        f"{_some(names)}; the model has {_some(model.state_dict())}. If these are weights of the "
        "PIIP authors or of another mmdetection model, convert them first: "
        "tools/convert_checkpoint.py"
    )


def _check_complete(missing: Sequence[str], model: nn.Module, purpose: str) -> None:
    parameters = {name for name, _ in model.named_parameters()}
    lacking = [name for name in missing if name in parameters]
    if purpose == "evaluate" and lacking:
        raise ValueError(
            f"the checkpoint leaves {len(lacking)} of {len(parameters)} parameters untrained, so "
            f"what it finds would mean nothing: {_some(lacking)} are missing or of another shape. "
            "Give a checkpoint of the whole model; the train.init_checkpoint of a configuration "
            'may be a start for training alone. "train.init_checkpoint=" leaves random weights'
        )


def _match(weights: Mapping[str, Any], model: nn.Module) -> _Match:
    own = model.state_dict()
    theirs = {name.removeprefix("module."): value for name, value in weights.items()}
    common = [name for name in own if name in theirs]
    misshapen = [name for name in common if tuple(own[name].shape) != tuple(theirs[name].shape)]
    return _Match(
        fitting=[name for name in common if name not in set(misshapen)],
        missing=[name for name in own if name not in theirs],
        unexpected=[name for name in theirs if name not in own],
        misshapen=misshapen,
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_EXAMPLES])
    return f"{shown}, …" if len(names) > _EXAMPLES else shown
