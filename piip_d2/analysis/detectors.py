"""The parts of detectors behind a network: neck and heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import Tensor, nn

from piip_d2.analysis.structure import num_params
from piip_d2.modeling import DINO
from piip_d2.modeling.backbone import PIIPNetwork

Features = Mapping[str, Tensor]
_Part = Callable[[str], AbstractContextManager[None]]


def find_network(model: nn.Module) -> PIIPNetwork:
    """Finds the PIIP in a model.

    Args:
        model: A network, a backbone around one, or a detector.

    Returns:
        The network.

    Raises:
        ValueError: If there is none.
    """
    for module in model.modules():
        if isinstance(module, PIIPNetwork):
            return module
    raise ValueError(f"costs are counted for models around a PIIP; {type(model).__name__} has none")


def find_backbone(model: nn.Module) -> nn.Module:
    """What takes images in a model: a detector's backbone, or the model itself."""
    return model.backbone if isinstance(model, GeneralizedRCNN | DINO) else model


def run_heads(model: nn.Module, features: Features, part: _Part) -> tuple[str, ...]:
    """Runs the heads of a detector on as many objects as it allows for one image.

    Args:
        model: A detector or anything else, whose heads are then none.
        features: What its backbone gives.
        part: Takes the name of a head and gives the context to run it in.

    Returns:
        What has to be known about the numbers, a sentence each.
    """
    if isinstance(model, DINO):
        return (_run_transformer(model, features, part),)
    if not isinstance(model, GeneralizedRCNN):
        return ()
    notes: list[str] = []
    for head in (model.proposal_generator, model.roi_heads):
        if head is None:
            continue
        run = next((run for kind, run in _RUNS.items() if isinstance(head, kind)), None)
        if run is None:
            notes.append(f"{type(head).__name__} is not counted: there is no rule for it.")
        else:
            notes.append(run(head, model, features, part))
    return tuple(notes)


def head_params(model: nn.Module, network: PIIPNetwork) -> dict[str, int]:
    """Parameters of everything behind the network, by part.

    Args:
        model: A detector, a backbone around the network, or the network.
        network: The network in it.

    Returns:
        By name, ``neck`` first; what has no name of its own is under ``other``.
    """
    params = {"neck": num_params(find_backbone(model)) - num_params(network)}
    if isinstance(model, GeneralizedRCNN):
        if model.proposal_generator is not None:
            params["rpn_head"] = num_params(model.proposal_generator)
        heads = model.roi_heads
        if isinstance(heads, StandardROIHeads):
            params["box_head"] = num_params(heads.box_head) + num_params(heads.box_predictor)
            if heads.mask_on:
                params["mask_head"] = num_params(heads.mask_head)
    if isinstance(model, DINO):
        params["transformer"] = num_params(model.transformer)
    params["other"] = num_params(model) - num_params(network) - sum(params.values())
    return params


def stages_of(module: Any) -> list[Any]:
    """The heads of a cascade, each of which works on all regions, or the one head there is."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _run_transformer(model: DINO, features: Features, part: _Part) -> str:
    finest, shape = (
        next(iter(features.values())),
        next(iter(model.backbone.output_shape().values())),
    )
    size = (finest.shape[2] * shape.stride, finest.shape[3] * shape.stride)
    with part("transformer"):
        model.transformer(list(features.values()), [size], size)
    return "transformer: as for detection, without noisy queries."


def _run_rpn(head: RPN, model: GeneralizedRCNN, features: Features, part: _Part) -> str:
    with part("rpn_head"):
        head.rpn_head([features[name] for name in head.in_features])
    return "rpn_head: on all maps of the neck, without the choice of proposals."


def _run_roi_heads(
    heads: StandardROIHeads, model: GeneralizedRCNN, features: Features, part: _Part
) -> str:
    channels = features[heads.box_in_features[0]].shape[1]
    proposals = cast(dict[bool, int], model.proposal_generator.post_nms_topk)[False]
    predictors = stages_of(heads.box_predictor)
    with part("box_head"):
        for box_head, predictor in zip(stages_of(heads.box_head), predictors, strict=True):
            predictor(box_head(_regions(proposals, channels, heads.box_pooler)))
    note = f"box_head: on {proposals} proposals, without cutting them out of the maps"
    if not heads.mask_on:
        return f"{note}."
    detections = cast(int, predictors[-1].test_topk_per_image)
    with part("mask_head"):
        for mask_head in stages_of(heads.mask_head):
            mask_head.layers(_regions(detections, channels, heads.mask_pooler))
    return f"{note}; mask_head: on {detections} detections, likewise."


def _regions(count: int, channels: int, pooler: Any) -> Tensor:
    return torch.empty(count, channels, *pooler.output_size, device="meta")


_RUNS: dict[type[nn.Module], Callable[[Any, GeneralizedRCNN, Features, _Part], str]] = {
    RPN: _run_rpn,
    StandardROIHeads: _run_roi_heads,
}
