"""What no weight shows: where a config computes otherwise than the program its weights are from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from piip_d2.checkpoint.detectors.form import DetectorForm
from piip_d2.checkpoint.detectors.sources import MMDET_DEVIATIONS, SOURCES, Source
from piip_d2.checkpoint.reference_config import pixel_statistics_in, resolutions_in

_AS_MMDET = "use_mmdet_behaviour of configs/common/models/cascade_as_mmdet.py does this and more"
_TOLERANCE = 1e-3


def find_remarks(
    model: Any, form: DetectorForm, *, to_official: bool = False, config: str = ""
) -> list[str]:
    """Compares how a model computes with how the other program does.

    Args:
        model: The model, with or without memory.
        form: Which detector it is, and what the other program is.
        to_official: Whether the weights are brought to the other program, not from it.
        config: The text of the configuration that the weights were trained with, if it is known.

    Returns:
        A sentence for each difference that changes results, with the override that cures it.
    """
    source = SOURCES[form.source]
    found: list[tuple[str, str]] = []
    if form.kind == "dino":
        found += _of_positions(model.transformer.position_encoding, source)
    if form.kind.startswith("cascade"):
        found += _of_cascade(model.roi_heads, form)
    if not to_official:
        found += _of_resolutions(model.backbone.bottom_up, config)
        found += _of_pixels(model, source, pixel_statistics_in(config))
        found += _of_strides(model, source)
    return [
        f"{difference}; results there will be others" if to_official else f"{difference}: {cure}"
        for difference, cure in found
    ]


def _of_positions(encoding: Any, source: Source) -> Iterator[tuple[str, str]]:
    wanted = (source.position_temperature, source.position_offset)
    if (encoding.temperature, encoding.offset) != wanted:
        temperature, offset = wanted
        yield (
            f"networks of {source.title} encode positions with the temperature {temperature:g} and "
            f"the offset {offset:g} as a rule, the config has {encoding.temperature:g} and "
            f"{encoding.offset:g}",
            f"give model.transformer.position_temperature={temperature:g} "
            f"model.transformer.position_offset={offset:g}",
        )


def _of_cascade(heads: Any, form: DetectorForm) -> Iterator[tuple[str, str]]:
    known = len(MMDET_DEVIATIONS)
    for stage, predictor in enumerate(heads.box_predictor[:known]):
        wanted = tuple(1.0 / deviation for deviation in MMDET_DEVIATIONS[stage])
        weights = tuple(predictor.box2box_transform.weights)
        if not _are_close(weights, wanted):
            given = ",".join(f"{weight:.7g}" for weight in wanted)
            yield (
                f"mmdetection weights the box deltas of stage {stage + 1} with {given}, the config "
                f"with {','.join(f'{weight:.7g}' for weight in weights)}",
                f"give model.roi_heads.box_predictors.{stage}.box2box_transform.weights=[{given}]; "
                f"{_AS_MMDET}",
            )
    if len(heads.box_predictor) > known:
        yield (
            f"mmdetection's weights of box deltas are known here for {known} stages, the config "
            f"has {len(heads.box_predictor)}",
            "compare the inverses of target_stds of the others' bbox_coder in their configuration "
            "with model.roi_heads.box_predictors.*.box2box_transform.weights",
        )
    if getattr(heads, "score_average", "probs") != "logits":
        yield (
            "mmdetection averages the logits of the stages, the config their probabilities",
            f"give model.roi_heads.score_average=logits; {_AS_MMDET}",
        )
    if form.kind == "cascade_mask_rcnn" and not form.has_mask_ensemble:
        yield (
            "masks of mmdetection are the mean of a head for each stage, the config has one head",
            f"make model.roi_heads.mask_head a list of {len(heads.box_predictor)}; {_AS_MMDET}",
        )


def _of_resolutions(network: Any, config: str) -> Iterator[tuple[str, str]]:
    trained = resolutions_in(config)[::-1]
    own = [getattr(branch, "img_size", None) for branch in getattr(network, "branches", [])][::-1]
    if trained and own and trained != own:
        yield (
            f"these weights were trained at the resolutions {trained}, but the config has {own}, "
            "which the output is marked with",
            "take the config that they were trained with, unless other resolutions are meant",
        )


def _of_pixels(
    model: Any, source: Source, trained: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, str]]:
    for name, usual in (("pixel_mean", source.pixel_mean), ("pixel_std", source.pixel_std)):
        own, wanted = getattr(model, name, None), trained.get(name, usual)
        if wanted is None or not isinstance(own, Tensor) or own.is_meta:
            continue
        if not _are_close(own.flatten().tolist(), wanted):
            given = ",".join(f"{value:g}" for value in wanted)
            whose = (
                "these weights were trained with"
                if name in trained
                else f"networks of {source.title} have as a rule"
            )
            yield (
                f"{whose} the {name} {given}, the config has "
                f"{','.join(f'{value:g}' for value in own.flatten().tolist())}",
                f"give model.{name}=[{given}]",
            )
    if source.pixel_mean is not None and getattr(model, "input_format", "RGB") != "RGB":
        yield (
            f"networks of {source.title} take images as RGB, the config as {model.input_format}",
            "give model.input_format=RGB and the image_format of the mappers",
        )


def _of_strides(model: Any, source: Source) -> Iterator[tuple[str, str]]:
    """Of ResNets, whose weights have the same shapes wherever the stride is."""
    stages = dict(model.backbone.bottom_up.named_children())
    first: Any = next(stages["res3"].children(), None) if "res3" in stages else None
    # Blocks of three convolutions begin with a 1x1.
    if hasattr(first, "conv3") and getattr(first.conv1, "stride", None) == (2, 2):
        yield (
            f"ResNets of {source.title} have their strides in 3x3 convolutions as a rule, the "
            "config's in 1x1 convolutions",
            "give model.backbone.bottom_up.stages.stride_in_1x1=False",
        )


def _are_close(values: Sequence[float], wanted: Sequence[float]) -> bool:
    return len(values) == len(wanted) and all(
        abs(value - other) <= _TOLERANCE * abs(other)
        for value, other in zip(values, wanted, strict=True)
    )
