"""Memory that DINO keeps between the forward and the backward pass of a training step.

Every storage that an operator makes is watched; what is still alive when the forward pass is over
is kept for the backward pass. That also finds what recomputation keeps: the inputs of what will run
again. Weights and images are there before and do not count.

Without numbers (a model on ``meta``) the network runs as on a CPU, so that sizes come out in which
no CPU could hold it. Kernels for GPUs keep the same tensors: attention its inputs, output and the
logarithm of its sum, deformable attention what its projections gave. Where the compiled operators
are missing, their reference keeps far more, and that is counted then.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from piip_d2.analysis.padding import padded_size
from piip_d2.analysis.storage_watch import OTHER, WEIGHT_COPIES, StorageWatch
from piip_d2.analysis.training_forward import run_forward
from piip_d2.modeling import DINO
from piip_d2.modeling.backbone import PIIPNetwork

# Parts of a model in the order of a report.
PARTS = ("branches", "interactions", "other_backbone", "neck", "encoder", "decoder", OTHER)


def count_activations(
    model: DINO,
    image_size: tuple[int, int],
    *,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> dict[str, int]:
    """Counts what backbone, neck and transformer keep for the backward pass.

    Losses are not part of it: next to the maps they are small.

    Args:
        model: The detector, on ``meta`` or a CPU. Its ``use_act_checkpoint`` are heeded.
        image_size: Height and width of the images in pixels, before padding.
        batch_size: Images in the batch.
        dtype: What autocast computes in; float32 for no autocast.

    Returns:
        Bytes by name: those of ``PARTS``, then the weights that autocast converted.

    Raises:
        ValueError: If the size is not positive, or the model stands on an accelerator.
    """
    if min(*image_size, batch_size) < 1:
        raise ValueError(
            f"image_size and batch_size must be positive, got {tuple(image_size)} and {batch_size}"
        )
    if model.device.type not in ("meta", "cpu"):
        raise ValueError(
            f'the model must be on "meta" or "cpu", got {model.device}; move a copy there'
        )
    with ExitStack() as stack:
        if model.device.type == "meta":
            stack.enter_context(FakeTensorMode())
            model = _copy_onto_fake_cpu(model)
        stack.callback(model.train, model.training)
        model.train()
        images = torch.zeros(batch_size, 3, *padded_size(image_size, model.backbone))
        weights = [*model.parameters(), *model.buffers()]
        watch = stack.enter_context(StorageWatch(_parts(model), weights, [images]))
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = run_forward(model, images, image_size)
        counts = dict.fromkeys((*PARTS, WEIGHT_COPIES), 0) | watch.count()
        del output
    return counts


def _copy_onto_fake_cpu(model: DINO) -> DINO:
    """A copy whose tensors have no numbers, but say that they stand on a CPU."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(model, memo)


def _parts(model: DINO) -> Iterator[tuple[str, nn.Module]]:
    """Names of parts and the modules whose work is theirs, unless a module inside says more."""
    neck = model.backbone
    network = getattr(neck, "bottom_up", None)
    yield "neck", neck
    if network is not None:
        yield "other_backbone", network
    for module in neck.modules():
        if isinstance(module, PIIPNetwork):
            # A branch is not called itself, but its parts are.
            for child in module.branches.modules():
                yield "branches", child
            for stage in module.interactions:
                yield "interactions", stage
    yield "encoder", model.transformer.encoder
    yield "decoder", model.transformer.decoder
