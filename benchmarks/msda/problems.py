"""The shapes that are measured, and tensors of these shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

POINTS = 4
# Keeps samples off the borders of pixels, across which rounding would change their gradients.
_MARGIN = 0.02

Levels = tuple[tuple[int, int], ...]
_DINO: Levels = ((100, 134), (50, 67), (25, 34), (13, 17))


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of one call of the operator.

    Args:
        levels: (H, W) of every level.
        queries: Rows and columns of a regular grid of queries, or a number of queries anywhere,
            or None for one query per pixel of every level.
        heads: Number of heads.
        width: Channels per head.
        batch: Number of images.
    """

    levels: Levels
    queries: tuple[int, int] | int | None
    heads: int
    width: int
    batch: int = 1


# A to C have heads of 32 channels at resolutions of PIIP; P1 to P5 are calls of released models, P5
# of InternViT-6B; E and D are the encoder and decoder of DINO on an image of 800 x 1072.
SHAPES = {
    "A": Shape(((56, 56),), (70, 70), 6, 32),
    "A2": Shape(((56, 56),), (70, 70), 6, 32, batch=2),
    "B": Shape(((56, 56),), (28, 28), 12, 32),
    "C": Shape(((70, 70),), (98, 98), 6, 32),
    "P1": Shape(((70, 70),), (98, 98), 16, 12),
    "P2": Shape(((98, 98),), (70, 70), 16, 24),
    "P3": Shape(((70, 70),), (42, 42), 16, 32),
    "P4": Shape(((70, 70),), (98, 98), 16, 6),
    "P5": Shape(((64, 64),), (32, 32), 16, 100),
    "E": Shape(_DINO, None, 8, 32),
    "D": Shape(_DINO, 900, 8, 32),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Tensors of one call, in the plain and in the fused form.

    Only ``value`` and ``grad_output`` change their type with :meth:`to`; locations, weights,
    offsets, logits and reference points stay in float32.
    """

    shape: Shape
    value: Tensor  # (B, S, M, D)
    locations: Tensor  # (B, Q, M, L, P, 2)
    weights: Tensor  # (B, Q, M, L, P)
    offsets: Tensor  # (B, Q, M, L, P, 2), in pixels
    logits: Tensor  # (B, Q, M, L, P)
    reference_points: Tensor  # (1, Q, 1, 2)
    sizes: Tensor  # (L, 2), width and height of every level
    grad_output: Tensor  # (B, Q, M * D)

    @property
    def query_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the queries, if they are a regular grid."""
        return self.shape.queries if isinstance(self.shape.queries, tuple) else None

    def to(self, dtype: torch.dtype, device: torch.device) -> Problem:
        """The same problem with a value of another type, or on another device."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "shape"]
        moved = {name: getattr(self, name).to(device) for name in names}
        for name in ("value", "grad_output"):
            moved[name] = moved[name].to(dtype)
        return Problem(self.shape, **moved)


def make_problem(shape: Shape, *, uniform: bool = False, seed: int = 0) -> Problem:
    """Draws a problem.

    Samples lie where those of an untrained module do: on a ring round the query, a pixel further
    out with every point, a direction per head; a noise of one pixel is added.

    Args:
        shape: Sizes.
        uniform: Lets samples lie anywhere on the map instead.
        seed: Of the random numbers.

    Returns:
        In float32, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    reference = _reference_points(shape, generator)
    queries, levels = len(reference), len(shape.levels)
    sizes = torch.tensor([(width, height) for height, width in shape.levels], dtype=torch.float64)
    size = (shape.batch, queries, shape.heads, levels, POINTS, 2)
    centers = reference[:, None, None, None] * sizes[:, None] - 0.5  # (Q, 1, L, 1, 2) pixels
    if uniform:
        pixels = torch.rand(size, generator=generator, dtype=torch.float64) * sizes[:, None] - 0.5
    else:
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        pixels = centers + _ring(shape.heads) + noise
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(_MARGIN, 1 - _MARGIN)
    logits = torch.randn(size[:-1], generator=generator)
    positions = sum(height * width for height, width in shape.levels)
    value = torch.randn(shape.batch, positions, shape.heads, shape.width, generator=generator)
    grad_output = torch.randn(shape.batch, queries, shape.heads * shape.width, generator=generator)
    return Problem(
        shape=shape,
        value=value,
        locations=((pixels + 0.5) / sizes[:, None]).float(),
        weights=logits.flatten(-2).softmax(-1).view_as(logits),
        offsets=(pixels - centers).float(),
        logits=logits,
        reference_points=reference[None, :, None].float(),
        sizes=sizes.float(),
        grad_output=grad_output,
    )


def corners(problem: Problem) -> tuple[Tensor, Tensor]:
    """Where in the value the rows begin that a problem asks for, and their weights.

    Args:
        problem: On a CPU.

    Returns:
        Offsets in numbers, as int32, and weights, both (B, Q, M, L, P, 4).
    """
    batch, positions, heads, width = problem.value.shape
    sizes = problem.sizes[:, None]  # (L, 1, 2)
    pixels = problem.locations.double() * sizes - 0.5
    first = pixels.floor()
    after = pixels - first
    images = torch.arange(batch).reshape(-1, 1, 1, 1, 1) * positions
    counts = torch.tensor([rows * columns for rows, columns in problem.shape.levels])
    starts = images + (counts.cumsum(0) - counts)[:, None]  # (B, 1, 1, L, 1)
    head = torch.arange(heads).reshape(-1, 1, 1)
    offsets, weights = [], []
    for step in torch.tensor([(0, 0), (1, 0), (0, 1), (1, 1)]):
        corner = first + step
        inside = ((corner >= 0) & (corner < sizes)).all(-1)
        x, y = (corner * inside[..., None]).long().unbind(-1)
        position = starts + y * sizes[..., 0].long() + x
        offsets.append(((position * heads + head) * width).int())
        share = torch.where(step == 1, after, 1 - after).prod(-1)
        weights.append((share * inside * problem.weights).float())
    return torch.stack(offsets, -1), torch.stack(weights, -1)


def _reference_points(shape: Shape, generator: torch.Generator) -> Tensor:
    """Where the queries are, (Q, 2) as (x, y) in [0, 1]."""
    if isinstance(shape.queries, int):
        return torch.rand(shape.queries, 2, generator=generator, dtype=torch.float64)
    grids: Sequence[tuple[int, int]] = [shape.queries] if shape.queries else shape.levels
    return torch.cat([_cells(rows, columns) for rows, columns in grids])


def _cells(rows: int, columns: int) -> Tensor:
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), dim=-1)


def _ring(heads: int) -> Tensor:
    """Initial offsets of Deformable DETR, (M, 1, P, 2) in pixels."""
    angles = torch.arange(heads, dtype=torch.float64) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(dim=-1, keepdim=True)
    steps = torch.arange(1, POINTS + 1, dtype=torch.float64)
    return directions[:, None, None] * steps[:, None]
