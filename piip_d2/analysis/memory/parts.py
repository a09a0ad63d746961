"""The parts of a detector that a report of memory tells apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from detectron2.modeling.meta_arch import GeneralizedRCNN
from torch import nn

from piip_d2.analysis.detectors import find_backbone
from piip_d2.analysis.memory.storage_watch import OTHER, WEIGHT_COPIES
from piip_d2.modeling import DINO
from piip_d2.modeling.backbone import PIIPNetwork

# Parts in the order of a report; all branches come first.
_BRANCH = "branches."
_ORDER = (
    "interactions",
    "merge",
    "other_backbone",
    "neck",
    "rpn",
    "roi_heads",
    "encoder",
    "decoder",
    OTHER,
    WEIGHT_COPIES,
)


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Sorts numbers by part as a report has them: the way of an image through a detector."""
    branches = sorted(part for part in counts if part.startswith(_BRANCH))
    return {part: counts[part] for part in (*branches, *_ORDER) if part in counts}


def memory_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names parts and the modules whose work is theirs, unless a module inside says more.

    Args:
        model: A detector.

    Yields:
        A name and a module: ``branches.0`` for the branch of the largest resolution and so on,
        ``interactions``, ``merge`` (with the feature maps), ``other_backbone``, ``neck``, and the
        heads by their own names.
    """
    backbone = find_backbone(model)
    yield "neck", backbone
    network = getattr(backbone, "bottom_up", None)
    if network is not None:
        yield "other_backbone", network
    for module in backbone.modules():
        if isinstance(module, PIIPNetwork):
            # A branch is not called itself, but its parts are.
            for number, branch in enumerate(reversed(module.branches)):
                for child in branch.modules():
                    yield f"{_BRANCH}{number}", child
            for stage in module.interactions:
                yield "interactions", stage
            for merge in (module.merge, *module.stage_merges.values(), module.feature_maps):
                yield "merge", merge
    if isinstance(model, DINO):
        yield "encoder", model.transformer.encoder
        yield "decoder", model.transformer.decoder
    if isinstance(model, GeneralizedRCNN):
        for name, head in (("rpn", model.proposal_generator), ("roi_heads", model.roi_heads)):
            for child in head.modules() if head is not None else ():
                yield name, child
