"""Comparing the weights in a file with those of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
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


def check_weights(weights: Mapping[str, Any], model: nn.Module, purpose: str) -> None:
    """Checks that weights fit a model well enough for what they are wanted for.

    Args:
        weights: Arrays by name.
        model: The model.
        purpose: "initialize" wants at least one fitting weight, "evaluate" all parameters,
            "resume" all weights and no others.

    Raises:
        ValueError: If they do not; the message shows names of both sides.
    """
    match = _match(weights, model)
    if not match.fitting:
        raise ValueError(
            f"none of the {len(weights)} weights in the checkpoint fits the model. The checkpoint "
            f"has {_some(weights)}; the model has {_some(model.state_dict())}. If these are "
            "weights of the PIIP authors or of another mmdetection model, convert them first: "
            "piip_d2.checkpoint.convert_detector_state_dict"
        )
    parameters = {name for name, _ in model.named_parameters()}
    lacking = [name for name in match.missing + match.misshapen if name in parameters]
    if purpose == "evaluate" and lacking:
        raise ValueError(
            f"the checkpoint leaves {len(lacking)} of {len(parameters)} parameters untrained, so "
            f"its evaluation would mean nothing: {_some(lacking)} are missing or of another shape"
        )
    wrong = match.missing + match.unexpected + match.misshapen
    if purpose == "resume" and wrong:
        raise ValueError(
            f"the checkpoint is of another model than the one to resume ({len(wrong)} weights "
            f"differ: {_some(wrong)}); start without --resume and give it as "
            "train.init_checkpoint to use what fits"
        )


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
