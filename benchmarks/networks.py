"""What is compared: networks and detectors of experiments, at full size or tiny ones."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from piip_d2.configs import get_config
from piip_d2.engine.build import enable_activation_checkpointing
from piip_d2.engine.compilation import compile_backbone
from piip_d2.modeling.backbone import PIIPNetwork, build_network, build_vit_branch

# Experiments by the names of rows; ViT-B with windows is the paper's baseline "ViTDet-B".
EXPERIMENTS = {
    "vit_b_1024": "mask_rcnn/vit_b_1024_1x",
    "piip_tsb_1120_896_448": "mask_rcnn/piip_tsb_1120_896_448_1x",
    "piip_tsb_1568_1120_672": "mask_rcnn/piip_tsb_1568_1120_672_1x",
    "piip_sbl_1568_1120_672": "mask_rcnn/piip_sbl_1568_1120_672_1x",
    "dino_piip_tsb_1120_896_448": "dino/piip_tsb_1120_896_448_1x",
}
BASELINE = "vit_b_1024"

EAGER, COMPILED, GRAPHS, NAIVE = "eager", "compiled", "cuda graphs", "naive"
CHECKPOINTED = "checkpointed"
# Weights and maps in bfloat16 throughout, without autocast.
NARROW = "16-bit weights"
_COMPILE_MODES = {COMPILED: "default", GRAPHS: "reduce-overhead"}
# Set where "naive" runs, before this package is imported: sampling by plain PyTorch.
NAIVE_ENVIRONMENT = {"PIIP_D2_DISABLE_EXTENSION": "1"}
# Tiny images are smaller by this; windows of 14 cells shrink to 2.
_TINY_DIVISOR = 7


def load_model_config(name: str, *, tiny: bool = False) -> DictConfig:
    """Loads the description of an experiment's detector.

    Args:
        name: One of :data:`EXPERIMENTS`.
        tiny: Whether to shrink the pyramid to what a CPU runs within a second.

    Returns:
        The description.
    """
    model: DictConfig = get_config(EXPERIMENTS[name]).model
    if not tiny:
        return model
    pyramid = model.backbone.bottom_up
    for number, branch in enumerate(pyramid.branches):
        windows = branch.window_size
        side = -(-branch.img_size // _TINY_DIVISOR // 32) * 32
        branch.update(img_size=side, embed_dim=32 * (number + 1), depth=2, num_heads=2)
        # The baseline attends globally in some blocks, which tiny ones do in the second.
        branch.window_size = 2 if isinstance(windows, int) else [2, None]
    pyramid.update(num_interactions=min(2, pyramid.num_interactions), num_heads=2)
    pyramid.size_divisibility = 32
    if "roi_heads" in model:
        model.proposal_generator.post_nms_topk = [60, 60]
        model.roi_heads.batch_size_per_image = 16
    return model


def build_model(name: str, *, whole_detector: bool, tiny: bool = False) -> nn.Module:
    """Builds the network or the whole detector of an experiment, with random weights.

    Args:
        name: One of :data:`EXPERIMENTS`.
        whole_detector: Whether to build neck and heads too.
        tiny: See :func:`load_model_config`.

    Returns:
        The detector, or the network below its neck.
    """
    cfg = load_model_config(name, tiny=tiny)
    model: nn.Module = instantiate(cfg if whole_detector else cfg.backbone.bottom_up)
    return model


def build_windowed_pyramid(side: int) -> PIIPNetwork:
    """Builds the pyramid whose growth is measured: ViT-Ti, and ViT-S on half the resolution.

    All attention is in windows, which cover the same part of the image in both branches and come
    out even from 256 pixels on, so that no padding of windows is in the way.

    Args:
        side: Side of the image in pixels, a multiple of 256.

    Returns:
        The network, with 12 interactions.
    """
    tiny = build_vit_branch("vit_tiny", img_size=side, window_size=16)
    small = build_vit_branch("vit_small", img_size=side // 2, window_size=8)
    return build_network([tiny, small], num_interactions=12)


def find_pyramids(model: nn.Module) -> list[PIIPNetwork]:
    """The PIIP networks in a model, of which a detector has one."""
    return [module for module in model.modules() if isinstance(module, PIIPNetwork)]


def image_side(model: nn.Module) -> int:
    """Side in pixels of the square images of a benchmark: the largest resolution."""
    return max(int(branch.img_size) for branch in find_pyramids(model)[0].branches)


def count_tokens(network: PIIPNetwork, side: int) -> int:
    """Cells of the maps of all branches for one square image, at the beginning of the network.

    Args:
        network: The network.
        side: Side of the image in pixels.

    Returns:
        Their number.
    """
    branches: list[Any] = list(network.branches)
    largest = max(branch.img_size for branch in branches)
    sides = (side * branch.img_size // largest // branch.stride_after(0) for branch in branches)
    return sum(cells**2 for cells in sides)


def use_variant(model: nn.Module, variant: str) -> None:
    """Prepares a model for the way in which it is to be computed.

    Args:
        model: Its pyramid alone is compiled; changed in place.
        variant: "eager", "naive", "16-bit weights", "compiled", "cuda graphs", or "checkpointed"
            with the kind of checkpointing behind a blank: "checkpointed block".
    """
    if variant in _COMPILE_MODES:
        compile_backbone(model, dynamic=False, mode=_COMPILE_MODES[variant])
    if variant == NARROW:
        model.bfloat16()
    kind, _, mode = variant.partition(" ")
    if kind == CHECKPOINTED:
        enable_activation_checkpointing(model, mode)


def variant_context(variant: str) -> AbstractContextManager[Any]:
    """The context in which a variant is called: products and softmax apart for the naive one."""
    return sdpa_kernel(SDPBackend.MATH) if variant == NAIVE else nullcontext()


def before_step(variant: str) -> None:
    """What has to be said before every call of a variant."""
    if variant == GRAPHS:
        # Results of the last replay may be overwritten from here on.
        torch.compiler.cudagraph_mark_step_begin()
