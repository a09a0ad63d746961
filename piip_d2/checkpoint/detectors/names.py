"""Whole detectors under the names of other programs, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from piip_d2.checkpoint.backbone_names import is_never_used, rules_to_ours
from piip_d2.checkpoint.backbone_weights import adapt_tensors
from piip_d2.checkpoint.detectors.coco_rows import existing_classes
from piip_d2.checkpoint.detectors.dino_names import num_decoder_layers
from piip_d2.checkpoint.detectors.form import STAGE, DetectorForm, detector_pairs, last_stage
from piip_d2.checkpoint.detectors.plain_backbones import rename_plain_backbone
from piip_d2.checkpoint.detectors.rcnn_names import NORM_KINDS
from piip_d2.checkpoint.detectors.sources import SOURCES, recognize_source
from piip_d2.checkpoint.renaming import check_known, rename_known, rules_of

OUR_PREFIX = "backbone.bottom_up."

UNUSED = "stored by the authors' code, used by nothing"
EARLIER_MASK_HEADS = "mask heads of earlier stages: the config's only one gets the last's weights"
SECOND_NAMES = "second names of weights that are there"
EMA_COPIES = (
    "what mmdetection's EMAHook keeps beside the weights: these are the average then, and the "
    "copies are what was trained"
)

_FIRST_HEAD = re.compile(r"transformer\.heads\.0\.(.*)").match


@dataclass
class RenamedDetector:
    """What became of the names of a detector.

    Args:
        sources: The name in the file by ours.
        dropped: Why a name of the file has none of ours.
        contradictory: Second names of weights by their first, whose values differ.
        unknown: Names of the file that fit no rule.
        foreign: Names of a backbone that fits no rule as a whole.
    """

    sources: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    contradictory: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def contradiction(self) -> str | None:
        """A sentence on the weights that are stored twice with different values, if there are."""
        if not self.contradictory:
            return None
        first, second = next(iter(self.contradictory.items()))
        return (
            f"{len(self.contradictory)} weights are stored twice with different values, such as "
            f"{first} and {second}, which are names of the same; take those out of the file that "
            "are not meant"
        )


def convert_detector_state_dict(
    state_dict: Mapping[str, Tensor],
    kind: str,
    source: str | None = None,
    *,
    has_mask_ensemble: bool = True,
) -> dict[str, Tensor]:
    """Brings a detector, or its heads alone, under our names.

    No tensor of the heads is changed but those of DINO's authors, whose 91 classes are numbered as
    in COCO's files: the 80 that exist remain. Class order, box deltas and the flattening of the
    first fully connected layer are the same everywhere.

    Args:
        state_dict: Tensors under the names of the source.
        kind: ``"faster_rcnn"``, ``"mask_rcnn"``, ``"cascade_rcnn"``, ``"cascade_mask_rcnn"`` or
            ``"dino"``.
        source: ``"mmdet"`` (2, with PIIP); for DINO also ``"mmdet3"``, ``"detrex"`` or
            ``"authors"``. None tells it by the names.
        has_mask_ensemble: Whether the three mask heads of a cascade are kept; else the last one
            becomes the only one.

    Returns:
        The tensors under the names of Detectron2's ``GeneralizedRCNN`` with a pyramid, or of
        :class:`piip_d2.modeling.DINO`. What nothing uses and second names are left out. Of
        backbones other than PIIP's, a ResNet of torchvision gets Detectron2's names; the rest
        keep theirs, which are Detectron2's for Swin in detrex and with DINO's authors.

    Raises:
        KeyError: If a name is unknown.
        ValueError: If ``kind`` or ``source`` is unknown, or weights are stored twice with different
            values.
    """
    source = source or recognize_source(state_dict) or "mmdet"
    form = DetectorForm(kind, source, has_mask_ensemble)
    renamed = rename_detector(state_dict, form)
    if renamed.foreign:
        form = replace(form, has_branches=False)
        renamed = rename_detector(state_dict, form)
    if renamed.contradiction:
        raise ValueError(renamed.contradiction)
    check_known(renamed.unknown)
    return take_weights(state_dict, renamed, form)


def rename_detector(state_dict: Mapping[str, Tensor], form: DetectorForm) -> RenamedDetector:
    """Finds our names for those of a detector, and changes nothing.

    Args:
        state_dict: Tensors under the names of the source.
        form: What they are.

    Returns:
        What is known, and what is not.
    """
    renamed = RenamedDetector()
    source = SOURCES[form.source]
    names = _first_names(state_dict, source.second_names, renamed)
    inside = {name: names.pop(name) for name in list(names) if name.startswith(source.backbone)}
    _rename_backbone(inside, source.backbone, form, renamed)
    if form.kind == "cascade_mask_rcnn" and not form.has_mask_ensemble:
        last = last_stage(names, STAGE)
        for name in [name for name in names if _is_earlier_mask_head(name, last)]:
            renamed.dropped[names.pop(name)] = EARLIER_MASK_HEADS
    pairs = [pair for norm in NORM_KINDS for pair in detector_pairs(form, norm, state_dict)]
    heads, unknown = rename_known(names, rules_of(pairs))
    renamed.sources |= heads
    renamed.unknown += [names[name] for name in unknown]
    if form.source == "authors":
        _share_heads(renamed.sources, num_decoder_layers(state_dict))
    return renamed


def take_weights(
    state_dict: Mapping[str, Tensor], renamed: RenamedDetector, form: DetectorForm
) -> dict[str, Tensor]:
    """Brings the tensors of a detector under the names that were found for them.

    Args:
        state_dict: Tensors under the names of the source.
        renamed: Our names.
        form: What they are.

    Returns:
        Tensors under our names; rows that our networks do not have are cut off.
    """
    tensors = {name: state_dict[theirs] for name, theirs in renamed.sources.items()}
    if form.source == "authors":
        tensors = {name: existing_classes(name, x, form.num_classes) for name, x in tensors.items()}
    return adapt_tensors(tensors) if form.has_branches else tensors


def _first_names(
    state_dict: Mapping[str, Tensor], prefixes: tuple[str, ...], renamed: RenamedDetector
) -> dict[str, str]:
    """Names without what is stored twice; a weight that is only below the decoder is taken."""
    copies = {f"ema_{name.replace('.', '_')}" for name in state_dict}
    names = {name: name for name in state_dict if not name.startswith(prefixes)}
    for name, x in state_dict.items():
        if name in copies:
            del names[name]
            renamed.dropped[name] = EMA_COPIES
        if name in names or name in copies:
            continue
        first = name.removeprefix("transformer.decoder.")
        if first not in state_dict:
            names[first] = name
        elif _are_equal(x, state_dict[first]):
            renamed.dropped[name] = SECOND_NAMES
        else:
            renamed.contradictory[first] = name
    return names


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and (first.is_meta or torch.equal(first, second))


def _rename_backbone(
    names: Mapping[str, str], prefix: str, form: DetectorForm, renamed: RenamedDetector
) -> None:
    inside = {name.removeprefix(prefix): theirs for name, theirs in names.items()}
    if not form.has_branches:
        backbone = rename_plain_backbone(inside)
    else:
        used = {name: theirs for name, theirs in inside.items() if not is_never_used(name)}
        backbone, unknown = rename_known(used, rules_to_ours())
        if len(unknown) > len(backbone):  # by chance, some names are the same in other networks
            renamed.foreign += list(inside.values())
            return
        renamed.dropped |= {theirs: UNUSED for name, theirs in inside.items() if name not in used}
        renamed.unknown += [inside[name] for name in unknown]
    renamed.sources |= {OUR_PREFIX + name: theirs for name, theirs in backbone.items()}


def _is_earlier_mask_head(name: str, last: int) -> bool:
    match = STAGE.match(name) if name.startswith("roi_head.mask_head.") else None
    return match is not None and int(match[1]) < last


def _share_heads(sources: dict[str, str], num_layers: int) -> None:
    """Gives the heads of the first layer to those that the file has none for."""
    first = {match[1]: theirs for name, theirs in sources.items() if (match := _FIRST_HEAD(name))}
    for layer in range(1, num_layers):
        for part, theirs in first.items():
            sources.setdefault(f"transformer.heads.{layer}.{part}", theirs)
