"""What is compared: the operators of this package, and others that compute the same."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.msda.problems import Problem
from piip_d2.ops import ms_deform_attn, ms_deform_attn_fused

PLAIN, FUSED = "piip_d2", "piip_d2 fused"
GRID_SAMPLE, TORCH_MSDA, DEFORMOPS = "grid_sample", "torch-ms-deform-attn", "deformops"
WITH_PREPARATION = " + preparation"

# A value, sampling locations and attention weights; or a value, offsets and logits.
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One way to compute the operator, bound to the sizes of a problem.

    Args:
        name: What tables call it.
        form: "plain" if it takes locations and weights, "fused" if offsets and logits.
        operator: The function.
    """

    name: str
    form: Literal["plain", "fused"]
    operator: Operator

    def inputs(self, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
        """The tensors of a problem that the operator takes."""
        if self.form == "plain":
            return problem.value, problem.locations, problem.weights
        return problem.value, problem.offsets, problem.logits


def peer_versions() -> dict[str, str | None]:
    """Versions of the other packages that can take part; None where one is not installed."""
    modules = {TORCH_MSDA: "torch_ms_deform_attn", DEFORMOPS: "deformops"}
    return {
        name: version(name) if importlib.util.find_spec(module) else None
        for name, module in modules.items()
    }


def default_names(device: torch.device) -> list[str]:
    """Names of all that can run on a device, the plain operator first."""
    peers = [name for name, found in peer_versions().items() if found]
    if device.type == "cpu":
        peers = [name for name in peers if name != DEFORMOPS]
    plain = [PLAIN, GRID_SAMPLE, *peers]
    # With a GPU the fused operator is compared with the best peer behind the same preparation.
    prepared = [PLAIN] if device.type == "cpu" else plain
    return [*plain, FUSED, *(name + WITH_PREPARATION for name in prepared)]


def bind(names: Sequence[str], problem: Problem) -> list[Implementation]:
    """Makes implementations for the sizes and the device of a problem.

    Args:
        names: As from :func:`default_names`.
        problem: Only its sizes and its device matter.

    Returns:
        In the order of the names.

    Raises:
        ValueError: If a name is unknown.
    """
    return [_bind_one(name, problem) for name in names]


def prepare(problem: Problem, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Locations and weights from offsets and logits, as a module computes them in PyTorch."""
    reference = problem.reference_points[:, :, None, :, None]  # (1, Q, 1, 1, 1, 2)
    locations = reference + offsets / problem.sizes[:, None]
    return locations, logits.flatten(-2).softmax(-1).view_as(logits)


def grid_sample_form(
    value: Tensor, levels: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The operator by ``grid_sample``, as most code computes it where there is no kernel.

    A 16-bit value is sampled in float32, as under autocast: ``grid_sample`` is wrong in 16 bit.
    """
    batch, _, heads, width = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    maps = value.float().split([rows * columns for rows, columns in levels], dim=1)
    samples = []
    for level, (rows, columns) in enumerate(levels):
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, width, rows, columns)
        # grid_sample counts from -1 to 1.
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        samples.append(
            F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        )
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(levels) * points)
    output = (torch.stack(samples, dim=-2).flatten(-2) * weights).sum(-1)
    output = output.view(batch, heads * width, queries).transpose(1, 2)
    return output.contiguous().to(value.dtype)


def _bind_one(name: str, problem: Problem) -> Implementation:
    if name == FUSED:
        return Implementation(name, "fused", _fused(problem))
    makers = {
        PLAIN: _plain,
        GRID_SAMPLE: _grid_sample,
        TORCH_MSDA: _torch_ms_deform_attn,
        DEFORMOPS: _deformops,
    }
    plain_name = name.removesuffix(WITH_PREPARATION)
    if plain_name not in makers:
        known = [*makers, FUSED, *(key + WITH_PREPARATION for key in makers)]
        raise ValueError(f"there is no implementation {name!r}; known are {known}")
    operator = makers[plain_name](problem)
    if plain_name == name:
        return Implementation(name, "plain", operator)

    def prepared(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return operator(value, *prepare(problem, offsets, logits))

    return Implementation(name, "fused", prepared)


def _plain(problem: Problem) -> Operator:
    levels = problem.shape.levels
    return lambda value, locations, weights: ms_deform_attn(value, levels, locations, weights)


def _fused(problem: Problem) -> Operator:
    grid = problem.query_grid
    points = problem.reference_points if grid is None else None
    levels = problem.shape.levels
    return lambda value, offsets, logits: ms_deform_attn_fused(
        value, levels, offsets, logits, reference_points=points, query_grid=grid
    )


def _grid_sample(problem: Problem) -> Operator:
    levels = problem.shape.levels
    return lambda value, locations, weights: grid_sample_form(value, levels, locations, weights)


def _torch_ms_deform_attn(problem: Problem) -> Operator:
    function = importlib.import_module("torch_ms_deform_attn").ms_deform_attn
    levels, starts = _level_tensors(problem)

    def operator(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        # It takes tensors of one type, and computes 16-bit ones in float32 itself.
        return function(value.float(), levels, starts, locations, weights).to(value.dtype)

    return operator


def _deformops(problem: Problem) -> Operator:
    function = importlib.import_module("deformops.registry.msda").msda
    levels, starts = _level_tensors(problem)

    def operator(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return function(value, levels, starts, locations, weights.to(value.dtype))

    return operator


def _level_tensors(problem: Problem) -> tuple[Tensor, Tensor]:
    """Sizes and first positions of all levels, as other packages want them."""
    levels = torch.tensor(problem.shape.levels, device=problem.value.device)
    counts = levels.prod(dim=1)
    return levels, counts.cumsum(0) - counts
