"""All that runs in our networks: every part, padding, sampling, feature maps, neck and heads.

The network runs without numbers (on ``meta``), and every operator is counted as it is called.
fvcore's own way, a traced graph, is not open there: while PyTorch traces, sizes are tensors, which
its rules for ``meta`` refuse. Its counting functions are used all the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from piip_d2.analysis.detectors import find_backbone, find_network, head_params, run_heads
from piip_d2.analysis.operators import (
    fvcore_norm_flops,
    is_attention_product,
    operator_flops,
    sampling_flops,
)
from piip_d2.analysis.report import CostReport, PartCost
from piip_d2.analysis.structure import check_resolutions, describe_branch, num_params
from piip_d2.analysis.without_numbers import copy_without_numbers
from piip_d2.layers import MSDeformAttn
from piip_d2.modeling.backbone import Branch, PIIPNetwork
from piip_d2.modeling.padding import padded_size

# From a layer and its inputs to its operations, those of attention cores apart.
_Work = Callable[..., tuple[int, int]]

IMAGE_PYRAMID = "image_pyramid"
_NOTES = (
    "All that runs is counted: padded windows, resizing, feature maps, and what is behind them.",
    "Not counted, as in fvcore: activations, softmax, sums of maps, scales, copies.",
)


def count_actual(
    model: nn.Module,
    resolutions: Sequence[int] | None = None,
    image_size: tuple[int, int] | None = None,
) -> CostReport:
    """Counts everything that runs for one image.

    Args:
        model: A network, a backbone around one, or a detector; it is neither run nor changed, a
            copy without numbers is.
        resolutions: Image sides in pixels, largest first; None for the branches' nominal sizes.
        image_size: Height and width in pixels of the image; None for a square of the largest
            resolution. Filled up as the backbone asks for it.

    Returns:
        The costs.

    Raises:
        ValueError: If there is no PIIP in ``model``, or sizes do not fit.
    """
    model = copy_without_numbers(model).eval()
    network, backbone = find_network(model), find_backbone(model)
    branches = [cast(Branch, branch) for branch in network.branches]
    if resolutions is not None:
        check_resolutions(resolutions, branches)
        for branch, side in zip(branches[::-1], resolutions, strict=True):
            branch.img_size = side
    sides = tuple(branch.img_size for branch in branches[::-1])
    size = padded_size(image_size or (sides[0], sides[0]), backbone)
    counter = _OperatorCounter()
    _watch_network(counter, network)
    _replace_layers(counter, model)
    notes: tuple[str, ...] = _NOTES
    with torch.no_grad(), counter, counter.part("neck"):
        features = backbone(torch.empty(1, 3, *size, device="meta"))
        notes += run_heads(model, features, counter.part)
    return CostReport("actual", sides, size, tuple(_parts(counter, model, network)), notes)


class _OperatorCounter(TorchDispatchMode):
    """Adds up what operators cost, by the part of the network that calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: dict[str, int] = defaultdict(int)
        self.attention_flops: dict[str, int] = defaultdict(int)
        self._running: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.add(operator_flops(func, args, output), attention=is_attention_product(func))
        return output

    def add(self, flops: int, *, attention: bool = False) -> None:
        """Books operations on the part that runs."""
        self.flops[self._running[-1]] += flops
        if attention:
            self.attention_flops[self._running[-1]] += flops

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is called within is booked on this part, unless on a part inside of it."""
        self._running.append(name)
        try:
            yield
        finally:
            self._running.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Books all that a method of an object calls on a part."""
        original = getattr(owner, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, method, counted)


def _watch_network(counter: _OperatorCounter, network: PIIPNetwork) -> None:
    counter.watch(network, "forward", IMAGE_PYRAMID)
    for number, branch in enumerate(network.branches):
        for method in ("embed", "forward_blocks"):
            counter.watch(branch, method, f"branches.{number}")
    for number, stage in enumerate(network.interactions):
        counter.watch(stage, "forward", f"interactions.{number}")
    for index, merge in network.stage_merges.items():
        counter.watch(merge, "forward", f"stage_merges.{index}")
    counter.watch(network.merge, "forward", "merge")
    counter.watch(network.feature_maps, "forward", "feature_maps")


def _replace_layers(counter: _OperatorCounter, model: nn.Module) -> None:
    for module in model.modules():
        for kind, work in _LAYERS.items():
            if isinstance(module, kind):
                module.forward = _from_sizes(counter, module, work)


def _from_sizes(counter: _OperatorCounter, layer: nn.Module, work: _Work) -> Callable[..., Tensor]:
    def forward(x: Tensor, *others: Any, **options: Any) -> Tensor:
        plain, attention = work(layer, x, *others)
        counter.add(plain)
        counter.add(attention, attention=True)
        return torch.empty_like(x)

    return forward


def _deformable_attention(
    layer: MSDeformAttn, query: Tensor, _: Tensor | None, feature: Tensor, *others: Any
) -> tuple[int, int]:
    """Costs of the four projections, and of sampling."""
    queries, cells = query.shape[:-1].numel(), feature.shape[:-1].numel()
    projections = queries * sum(
        linear.weight.numel()
        for linear in (layer.sampling_offsets, layer.attention_weights, layer.output_proj)
    )
    samples = queries * layer.num_levels * layer.num_points
    return (
        projections + cells * layer.value_proj.weight.numel(),
        sampling_flops(samples * layer.value_proj.out_features),
    )


def _norm(layer: nn.LayerNorm | nn.RMSNorm, x: Tensor) -> tuple[int, int]:
    return fvcore_norm_flops(x.numel()), 0


def _parts(counter: _OperatorCounter, model: nn.Module, network: PIIPNetwork) -> list[PartCost]:
    """All parts in the order in which they run, those of the network named like its weights."""
    branches = [(f"branches.{number}", branch) for number, branch in enumerate(network.branches)]
    merges = [(f"stage_merges.{index}", merge) for index, merge in network.stage_merges.items()]
    modules: dict[str, nn.Module] = {
        **dict(branches[::-1]),
        **{f"interactions.{index}": stage for index, stage in enumerate(network.interactions)},
        **dict(merges),
        "merge": network.merge,
        "feature_maps": network.feature_maps,
    }
    params = {name: num_params(module) for name, module in modules.items()}
    params = {IMAGE_PYRAMID: 0, **params, **head_params(model, network)}
    descriptions = {
        name: describe_branch(cast(Branch, branch), cast(Branch, branch).img_size)
        for name, branch in branches
    }
    return [
        PartCost(
            name,
            count,
            counter.flops.get(name, 0),
            counter.attention_flops.get(name, 0),
            descriptions.get(name, ""),
        )
        for name, count in params.items()
        if count or counter.flops.get(name)
    ]


# Layers that are counted from their sizes and not run: without numbers, sampling is gathering, and
# RMS norms fall into their elements. Layer norms take a fourth of the time there.
_LAYERS: dict[type[nn.Module], _Work] = {
    MSDeformAttn: _deformable_attention,
    nn.LayerNorm: _norm,
    nn.RMSNorm: _norm,
}
