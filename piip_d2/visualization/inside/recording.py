"""Writes down what happens inside a PIIP for one image, by hooks while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from piip_d2.analysis.detectors import find_network
from piip_d2.modeling.backbone import (
    Branch,
    CrossBranchAttention,
    InteractionStage,
    InteractionUnit,
    PIIPNetwork,
)
from piip_d2.predictor import ImageLike, Predictor, to_rgb
from piip_d2.visualization.inside.record import (
    AttentionRecord,
    DetectorRecord,
    InteractionRecord,
    Record,
)


def record_network(
    network: nn.Module,
    images: Tensor,
    content_size: tuple[int, int] | None = None,
    interactions: Sequence[int] | None = None,
) -> Record:
    """Runs a network, or a backbone around one, and writes down what happens in it.

    Args:
        network: It is not changed; run in evaluation mode, and left in the mode it was in.
        images: (1, 3, H, W), normalised and padded.
        content_size: Height and width of the image within; None if nothing is padded.
        interactions: Numbers of those to write down, from 0; None for all.

    Returns:
        What happened.

    Raises:
        ValueError: If there is no PIIP in ``network`` or no such interaction, there is more than
            one image, or the content is larger than the images.
    """
    if images.dim() != 4 or images.shape[0] != 1:
        raise ValueError(
            f"one image at a time is recorded, (1, 3, H, W), got {tuple(images.shape)}"
        )
    is_training = network.training
    network.eval()
    try:
        with torch.no_grad(), recording(network, interactions) as record:
            network(images)
    finally:
        network.train(is_training)
    size = (images.shape[-2], images.shape[-1]) if content_size is None else content_size
    return _finish(record, size)


def record_detector(
    predictor: Predictor, image: ImageLike, interactions: Sequence[int] | None = None
) -> DetectorRecord:
    """Lets a predictor look at an image, and writes down what happens in its network.

    Args:
        predictor: Of a detector around a PIIP.
        image: As the predictor takes it; arrays are RGB.
        interactions: See :func:`record_network`.

    Returns:
        What happened, and what was found.

    Raises:
        ValueError: If the detector has no PIIP or no such interaction, or the image cannot be
            used.
    """
    pixels = to_rgb(image)
    sizes: list[tuple[int, int]] = []

    def note_size(module: nn.Module, args: tuple[Any, ...]) -> None:
        height, width = args[0][0]["image"].shape[-2:]
        sizes.append((height, width))

    model = predictor.model
    handle = model.register_forward_pre_hook(note_size)
    try:
        with recording(model, interactions) as record:
            detections = predictor(pixels)
    finally:
        handle.remove()
    record = _finish(record, sizes[0])
    mean, std = getattr(model, "pixel_mean", None), getattr(model, "pixel_std", None)
    if mean is not None and std is not None:
        record.pixel_mean, record.pixel_std = mean.flatten().tolist(), std.flatten().tolist()
    record.channel_order = predictor.cfg.dataloader.test.mapper.get("image_format", "RGB")
    return DetectorRecord(record, pixels, detections)


@contextmanager
def recording(model: nn.Module, interactions: Sequence[int] | None = None) -> Iterator[Record]:
    """Writes down what happens in a model's network while it runs, once, in this context.

    Args:
        model: A network, a backbone around one, or a detector.
        interactions: See :func:`record_network`.

    Yields:
        What is filled while the model runs; of several images the first is kept. Everything is
        a copy in float32 on the CPU.

    Raises:
        ValueError: If the model has no PIIP or no such interaction.
    """
    network = find_network(model)
    numbers = check_interactions(network, interactions)
    record = Record(network, torch.empty(0), (0, 0))
    with ExitStack() as stack:
        watch = _Watch(stack, record)
        watch.images(network)
        for branch in network.branches:
            watch.embedding(cast(Branch, branch))
        for number in numbers:
            watch.interaction(number, cast(InteractionStage, network.interactions[number]))
        watch.merge(network.merge)
        watch.outputs(network)
        yield record


def check_interactions(network: PIIPNetwork, chosen: Sequence[int] | None) -> list[int]:
    """Refuses interactions that a network does not have.

    Args:
        network: The network.
        chosen: Their numbers, from 0; None for all.

    Returns:
        The numbers, ascending, each once.

    Raises:
        ValueError: If one is not there.
    """
    count = len(network.interactions)
    numbers = sorted(set(range(count) if chosen is None else chosen))
    if not set(numbers) <= set(range(count)):
        possible = f"numbers from 0 to {count - 1}" if count else "none, as the network has none"
        raise ValueError(f"interactions must be {possible}; got {list(chosen or ())}")
    return numbers


class _Watch:
    """Puts hooks on the parts of a network, to be taken off when a stack is left."""

    def __init__(self, stack: ExitStack, record: Record) -> None:
        self._stack = stack
        self._record = record

    def images(self, network: PIIPNetwork) -> None:
        self._before(network, lambda args: setattr(self._record, "images", _first(args[0])))

    def embedding(self, branch: Branch) -> None:
        # The method is no module, so that hooks cannot see it.
        original = branch.embed

        def embed(images: Tensor) -> Tensor:
            embedded = original(images)
            self._record.pyramid.append(_first(images))
            self._record.embedded.append(_first(embedded))
            return embedded

        branch.__dict__["embed"] = embed
        self._stack.callback(branch.__dict__.pop, "embed")

    def interaction(self, number: int, stage: InteractionStage) -> None:
        attentions: list[AttentionRecord] = []

        def note(args: tuple[Any, ...], output: Any) -> None:
            before, after = _firsts(args[0]), _firsts(output)
            seen = InteractionRecord(before, after, tuple(attentions))
            self._record.interactions[number] = seen

        for (low, high), unit in zip(stage.pairs, stage.units, strict=True):
            exchange = cast(InteractionUnit, unit)
            for querying, attended, module in (
                (low, high, exchange.high_to_low),
                (high, low, exchange.low_to_high),
            ):
                if module is not None:
                    self._attention(querying, attended, module, attentions)
        self._after(stage, note)

    def _attention(
        self,
        querying: int,
        attended: int,
        module: CrossBranchAttention,
        attentions: list[AttentionRecord],
    ) -> None:
        def note(args: tuple[Any, ...]) -> None:
            query, feature = _firsts(args[:2])
            attentions.append(AttentionRecord(querying, attended, module, query, feature))

        self._before(module, note)

    def merge(self, merge: nn.Module) -> None:
        def note(args: tuple[Any, ...], output: Any) -> None:
            self._record.final = [x.permute(1, 2, 0) for x in _firsts(args[0])]
            self._record.merged = _first(output)

        self._after(merge, note)
        projections: Any = getattr(merge, "projections", ())
        for index, projection in enumerate(projections):
            self._contribution(merge, index, projection)

    def _contribution(self, merge: Any, index: int, projection: nn.Module) -> None:
        def note(args: tuple[Any, ...], output: Any) -> None:
            weighted = float(merge.weights[index].item()) * _first(output)
            self._record.contributions[merge.merged[index]] = weighted

        self._after(projection, note)

    def outputs(self, network: PIIPNetwork) -> None:
        def note(args: tuple[Any, ...], output: Any) -> None:
            self._record.feature_maps = {name: _first(x) for name, x in output.items()}

        self._after(network.feature_maps, note)

    def _before(self, module: nn.Module, note: Callable[[tuple[Any, ...]], None]) -> None:
        handle = module.register_forward_pre_hook(lambda _, args: note(args))
        self._stack.callback(handle.remove)

    def _after(self, module: nn.Module, note: Callable[[tuple[Any, ...], Any], None]) -> None:
        handle = module.register_forward_hook(lambda _, args, output: note(args, output))
        self._stack.callback(handle.remove)


def _finish(record: Record, content_size: tuple[int, int]) -> Record:
    if not record.feature_maps:
        raise ValueError("nothing was recorded, since the network did not run")
    height, width = record.images.shape[-2:]
    if not (1 <= content_size[0] <= height and 1 <= content_size[1] <= width):
        raise ValueError(
            f"content_size must lie within the images of {height} x {width} pixels, got "
            f"{content_size[0]} x {content_size[1]}"
        )
    record.content_size = content_size
    return record


def _firsts(maps: Sequence[Tensor]) -> list[Tensor]:
    return [_first(x) for x in maps]


def _first(x: Tensor) -> Tensor:
    # A copy, since what runs later may write into the tensor.
    return x[0].detach().to("cpu", torch.float32, copy=True)
