"""Runs a step without numbers, and says how much memory its tensors take on the way.

Without numbers (a model on ``meta``) the step runs as on a CPU, so that sizes come out in which no
CPU could hold it. For a GPU, attention is told to keep what it keeps there: its inputs, its output
and the logarithm of its sum. On a CPU it also keeps the weights of few keys in bfloat16. All else
keeps the same on both, deformable attention what its projections gave. Where the compiled
operators are missing, their reference keeps far more, and that is counted then.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from piip_d2.analysis.detectors import find_backbone
from piip_d2.analysis.memory.dino_step import dino_detections, dino_losses
from piip_d2.analysis.memory.parts import in_order, memory_parts
from piip_d2.analysis.memory.rcnn_step import rcnn_detections, rcnn_losses
from piip_d2.analysis.memory.storage_watch import StorageWatch
from piip_d2.modeling import DINO
from piip_d2.modeling.padding import padded_size
from piip_d2.ops.attention import without_matrix_of_weights

DEVICES = ("cpu", "cuda")
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Batch:
    """What a step is run on.

    Args:
        image_size: Height and width of the images in pixels, before padding.
        batch_size: Images.
        dtype: What autocast computes in; float32 for no autocast.
        num_objects: Objects in every image, for training.
        device: ``"cpu"`` or ``"cuda"``: where the step is to run that is counted.
    """

    image_size: tuple[int, int]
    batch_size: int = 1
    dtype: torch.dtype = torch.float32
    num_objects: int = 10
    device: str = "cpu"

    def autocast(self) -> torch.autocast:
        """The context of the forward pass, which runs on a CPU whatever it is counted for."""
        return torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32)


@dataclass(frozen=True)
class StepTrace:
    """Bytes of a step's tensors. Weights that are there before do not count.

    Args:
        kept: At the end of the forward pass, by part; for detection, nothing.
        forward_peak: The most during the forward pass.
        backward_peak: The most during the backward pass, with the gradients made so far unless
            they were there before.
        gradients: What the backward pass has left behind.
        optimizer_states: What the first update has left behind.
        update_peak: The most that an update needs beyond states and gradients.
    """

    kept: dict[str, int] = field(default_factory=dict)
    forward_peak: int = 0
    backward_peak: int = 0
    gradients: int = 0
    optimizer_states: int = 0
    update_peak: int = 0


def trace_training(
    model: nn.Module,
    batch: Batch,
    *,
    make_optimizer: MakeOptimizer | None = None,
    has_gradients: bool = False,
    counts_weight_copies: bool = True,
) -> StepTrace:
    """Traces forward pass, losses, backward pass and update.

    Args:
        model: The detector, on ``meta`` or a CPU; its ``use_act_checkpoint`` are heeded. A model on
            a CPU really runs.
        batch: What it is run on.
        make_optimizer: Makes the optimizer from the model; None for no update.
        has_gradients: Whether gradients are there before, and are added to.
        counts_weight_copies: Whether weights in other types, which autocast makes, count.

    Returns:
        What was seen.

    Raises:
        ValueError: If the size is not positive, the model stands on an accelerator, or there is no
            rule for it.
    """
    options = {"has_gradients": has_gradients, "counts_weight_copies": counts_weight_copies}
    with _watched(model, batch, **options) as (model, watch):
        model.train()
        loss = _losses(model, batch)
        kept, forward_peak = in_order(watch.count()), watch.peak
        watch.restart_peak()
        loss.backward()
        del loss
        backward_peak, gradients = watch.peak, watch.total
        if make_optimizer is None:
            return StepTrace(kept, forward_peak, backward_peak, gradients)
        optimizer = make_optimizer(model)
        optimizer.step()
        states = watch.total - gradients
        watch.restart_peak()
        optimizer.step()
        return StepTrace(
            kept, forward_peak, backward_peak, gradients, states, watch.peak - watch.total
        )


def trace_detection(
    model: nn.Module, batch: Batch, *, counts_weight_copies: bool = True
) -> StepTrace:
    """Traces detection.

    Args:
        model: As in :func:`trace_training`.
        batch: What it is run on.
        counts_weight_copies: As there.

    Returns:
        What was seen.

    Raises:
        ValueError: As in :func:`trace_training`.
    """
    options = {"counts_weight_copies": counts_weight_copies}
    with _watched(model, batch, **options) as (model, watch), torch.no_grad():
        model.eval()
        with batch.autocast():
            images = _images(model, batch)
            if isinstance(model, DINO):
                dino_detections(model, images, batch.image_size)
            else:
                rcnn_detections(model, images, batch.image_size)
        return StepTrace(forward_peak=watch.peak)


def count_activations(model: nn.Module, batch: Batch) -> dict[str, int]:
    """Counts what is kept between the forward and the backward pass.

    Args:
        model: As in :func:`trace_training`.
        batch: What it is run on.

    Returns:
        Bytes by part, and of the weights that autocast converted.

    Raises:
        ValueError: As in :func:`trace_training`.
    """
    with _watched(model, batch) as (model, watch):
        model.train()
        loss = _losses(model, batch)
        counts = in_order(watch.count())
        del loss
    return counts


@contextmanager
def _watched(
    model: nn.Module,
    batch: Batch,
    *,
    has_gradients: bool = False,
    counts_weight_copies: bool = True,
) -> Iterator[tuple[nn.Module, StorageWatch]]:
    if min(*batch.image_size, batch.batch_size, batch.num_objects) < 1:
        raise ValueError(
            "image_size, batch_size and num_objects must be positive, got "
            f"{tuple(batch.image_size)}, {batch.batch_size} and {batch.num_objects}"
        )
    if not isinstance(model, DINO | GeneralizedRCNN):
        raise ValueError(
            "memory is counted for DINO, Mask R-CNN and Cascade R-CNN; got a "
            f"{type(model).__name__}"
        )
    if model.device.type not in ("meta", "cpu"):
        raise ValueError(
            f'the model must be on "meta" or "cpu", got {model.device}; move a copy there'
        )
    if batch.device not in DEVICES:
        raise ValueError(f"memory is counted for the devices {DEVICES}, got {batch.device!r}")
    with ExitStack() as stack:
        if batch.device == "cuda":
            stack.enter_context(without_matrix_of_weights())
        if model.device.type == "meta":
            stack.enter_context(FakeTensorMode())
            model = _copy_onto_fake_cpu(model)
        stack.callback(model.train, model.training)
        weights = [*model.parameters(), *model.buffers()]
        if has_gradients:
            weights += _make_gradients(model)
        watch = StorageWatch(
            memory_parts(model), weights, counts_weight_copies=counts_weight_copies
        )
        yield model, stack.enter_context(watch)


def _losses(model: nn.Module, batch: Batch) -> Tensor:
    with batch.autocast():
        # Nobody but the network holds on to them.
        images = _images(model, batch)
        if isinstance(model, DINO):
            return dino_losses(model, images, batch.image_size, batch.num_objects)
        assert isinstance(model, GeneralizedRCNN)
        return rcnn_losses(model, images, batch.num_objects)


def _images(model: nn.Module, batch: Batch) -> Tensor:
    return torch.zeros(batch.batch_size, 3, *padded_size(batch.image_size, find_backbone(model)))


def _make_gradients(model: nn.Module) -> list[Tensor]:
    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    return gradients


def _copy_onto_fake_cpu(model: nn.Module) -> nn.Module:
    """A copy whose tensors have no numbers, but say that they stand on a CPU."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
    return copy.deepcopy(model, memo)
