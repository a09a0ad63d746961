"""What is timed: inference and training steps of networks and of whole detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from benchmarks.networks import EAGER, before_step, image_side, variant_context
from piip_d2.engine.precision import Precision

Step = Callable[[], object]

# Objects in every image of a training step, about as many as COCO has.
_NUM_OBJECTS = 8
# Boxes with a class that pass the threshold of a detector with random weights, per image.
_NUM_CANDIDATES = 1000


def make_network_step(
    network: nn.Module, images: Tensor, precision: Precision, variant: str, *, training: bool
) -> Step:
    """A forward pass of a network alone, or a forward and a backward pass.

    Args:
        network: The network.
        images: (B, 3, H, W).
        precision: Arithmetic of the forward pass.
        variant: See :func:`benchmarks.networks.use_variant`.
        training: Whether to train.

    Returns:
        What does it.
    """
    network.train(training)

    def infer() -> object:
        before_step(variant)
        with torch.inference_mode(), variant_context(variant), precision.autocast():
            return network(images)

    def train() -> object:
        before_step(variant)
        network.zero_grad(set_to_none=True)
        with variant_context(variant):
            with precision.autocast():
                maps = list(network(images).values())
            torch.autograd.backward(maps, [_gradient(x) for x in maps])
        return None

    return train if training else infer


def make_detector_step(
    model: nn.Module, precision: Precision, variant: str, *, training: bool, batch_size: int
) -> Step:
    """Detection on a batch of images, or a training step with losses and an update of the weights.

    Args:
        model: The detector.
        precision: Arithmetic of the forward pass.
        variant: See :func:`benchmarks.networks.use_variant`.
        training: Whether to train.
        batch_size: Images in the batch.

    Returns:
        What does it.
    """
    model.train(training)
    inputs = [make_input(image_side(model), seed) for seed in range(batch_size)]

    def infer() -> object:
        before_step(variant)
        with torch.inference_mode(), variant_context(variant), precision.autocast():
            return model(inputs)

    if not training:
        return infer
    device = next(model.parameters()).device
    # Too small a rate to lead anywhere.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-8, fused=device.type == "cuda")

    def train() -> object:
        before_step(variant)
        optimizer.zero_grad()
        with EventStorage(), variant_context(variant):
            with precision.autocast():
                loss = torch.stack(list(model(inputs).values())).sum()
            precision.backward(loss)
        precision.step(optimizer)
        return None

    return train


def make_input(side: int, seed: int) -> dict[str, Any]:
    """An image of noise with objects, as a data loader gives it.

    Args:
        side: Side of the image in pixels.
        seed: Of the random numbers.

    Returns:
        In Detectron2's format.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)
    corners = torch.rand(_NUM_OBJECTS, 2, generator=generator) * side * 0.7
    boxes = torch.cat((corners, corners + side * 0.2), dim=1)
    instances = Instances((side, side))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.arange(_NUM_OBJECTS)
    columns = [0, 1, 2, 1, 2, 3, 0, 3]
    instances.gt_masks = PolygonMasks([[box[columns].double().numpy()] for box in boxes])
    return {"image": image, "height": side, "width": side, "instances": instances}


def let_candidates_pass(model: nn.Module, precision: Precision, batch_size: int) -> None:
    """Sets the score from which boxes count so that about as many do as in a trained detector.

    Random weights rate all classes alike, and nothing would be left to draw masks for.

    Args:
        model: The detector, which runs once; other ones than R-CNNs are left as they are.
        precision: Arithmetic of the forward pass.
        batch_size: Images of that pass.
    """
    heads = getattr(model, "roi_heads", None)
    if not isinstance(heads, StandardROIHeads):
        return
    seen: list[Tensor] = []

    def remember(_: nn.Module, __: Any, output: tuple[Tensor, Tensor]) -> None:
        seen.append(output[0].float().softmax(dim=-1)[:, :-1].flatten())

    hook = heads.box_predictor.register_forward_hook(remember)
    # Not the step itself: what is compiled is to be so in the first measured call.
    make_detector_step(model, precision, EAGER, training=False, batch_size=batch_size)()
    hook.remove()
    scores = torch.cat(seen)
    place = min(_NUM_CANDIDATES * batch_size, scores.numel()) - 1
    heads.box_predictor.test_score_thresh = scores.sort(descending=True).values[place].item()


def _gradient(feature_map: Tensor) -> Tensor:
    """A gradient per channel that takes no memory, and that norms do not cancel."""
    channels = feature_map.shape[1]
    steps = torch.linspace(-1.0, 1.0, channels, device=feature_map.device)
    return steps.to(feature_map.dtype)[None, :, None, None].expand_as(feature_map)
