"""How many operations the steps of the benchmarks take, counted by ``piip_d2.analysis``."""

from __future__ import annotations

import functools

import torch
from detectron2.config import instantiate

from benchmarks.networks import build_windowed_pyramid, find_pyramids, load_model_config
from benchmarks.rows import TRAINING
from piip_d2.analysis.actual import count_actual
from piip_d2.analysis.report import CostReport
from piip_d2.analysis.without_numbers import without_numbers

# Heads that work on chosen regions, of which training sees others than inference.
_HEADS_ON_REGIONS = ("box_head", "mask_head")
# A multiply-add is two operations. A backward pass takes two products for each of the forward one.
_PER_MULTIPLY_ADD = 2
_PASSES_OF_TRAINING = 3


def count_flop(
    network: str, mode: str, *, whole_detector: bool, batch_size: int = 1, tiny: bool = False
) -> float:
    """Counts the floating-point operations of a step, those of recomputation left out.

    The heads of a detector that work on regions count in inference only: how many regions there are
    in training depends on the weights.

    Args:
        network: Name of the experiment.
        mode: "inference" or "training".
        whole_detector: Whether neck and heads run too.
        batch_size: Images per step.
        tiny: See :func:`benchmarks.networks.load_model_config`.

    Returns:
        Twice the multiply-adds that run, three times as much for training.
    """
    report = _report(network, whole_detector=whole_detector, tiny=tiny)
    left_out = _HEADS_ON_REGIONS if mode == TRAINING else ()
    multiply_adds = sum(part.flops for part in report.parts if part.name not in left_out)
    passes = _PASSES_OF_TRAINING if mode == TRAINING else 1
    return float(_PER_MULTIPLY_ADD * passes * batch_size * multiply_adds)


def count_windowed_flop(side: int, mode: str) -> float:
    """Counts the operations of the pyramid whose growth is measured.

    Args:
        side: Side of the image in pixels.
        mode: "inference" or "training".

    Returns:
        As from :func:`count_flop`.
    """
    with without_numbers():
        model = build_windowed_pyramid(side)
    multiply_adds = count_actual(model, image_size=(side, side)).flops
    passes = _PASSES_OF_TRAINING if mode == TRAINING else 1
    return float(_PER_MULTIPLY_ADD * passes * multiply_adds)


@functools.cache
def _report(network: str, *, whole_detector: bool, tiny: bool) -> CostReport:
    cfg = load_model_config(network, tiny=tiny)
    with without_numbers():
        model = instantiate(cfg if whole_detector else cfg.backbone.bottom_up)
    with torch.no_grad():
        side = max(int(branch.img_size) for branch in find_pyramids(model)[0].branches)
        return count_actual(model, image_size=(side, side))
