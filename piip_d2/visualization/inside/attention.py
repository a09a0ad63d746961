"""Where one cell of a branch looks in another branch, and how much each place counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piip_d2.layers import CrossAttention, DeformableCrossAttention, MSDeformAttn
from piip_d2.visualization.inside.record import AttentionRecord, Record


@dataclass(frozen=True)
class Look:
    """What one cell attends to in one interaction.

    All positions are shares of the padded image, (x, y) from its upper left corner, so that they
    hold for every branch.

    Args:
        interaction: Number of the interaction, from 0.
        querying: Number of the branch whose cell looks.
        attended: Number of the branch that is looked at.
        cell: Row and column of the cell on its map.
        cell_grid: Rows and columns of that map.
        attended_grid: Rows and columns of the map that is looked at.
        points: (M, P, 2), what each head samples; None where every cell is attended to.
        weights: How much each place counts, 1 in total for each head: (M, P) of ``points``, or
            (M, H, W) of all cells.
    """

    interaction: int
    querying: int
    attended: int
    cell: tuple[int, int]
    cell_grid: tuple[int, int]
    attended_grid: tuple[int, int]
    points: np.ndarray | None
    weights: np.ndarray

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the cell."""
        y, x = ((i + 0.5) / n for i, n in zip(self.cell, self.cell_grid, strict=True))
        return x, y

    @property
    def num_heads(self) -> int:
        """How many heads look."""
        return len(self.weights)

    @property
    def outside(self) -> np.ndarray | None:
        """(M, P), whether a sampled point lies so far beyond the map that it reads zeros."""
        if self.points is None:
            return None
        # Bilinear sampling still reads some of the map up to half a cell outside of it.
        half_cell = 0.5 / np.array(self.attended_grid[::-1])
        beyond: np.ndarray = (self.points <= -half_cell) | (self.points >= 1 + half_cell)
        return np.any(beyond, axis=-1)


def looks_at(record: Record, point: tuple[float, float]) -> list[Look]:
    """Finds what the cells at one point of an image attend to.

    Args:
        record: What happened in the network.
        point: (x, y) as shares of the padded image, each in [0, 1).

    Returns:
        One entry for each interaction that was recorded and each direction in it.

    Raises:
        ValueError: If the point lies outside.
    """
    if not all(0 <= share < 1 for share in point):
        raise ValueError(f"the point must lie in the image, at shares in [0, 1), got {point}")
    return [
        look(number, attention, _cell_at(point, attention.query.shape[:2]))
        for number, interaction in record.interactions.items()
        for attention in interaction.attentions
    ]


@torch.no_grad()
def look(interaction: int, attention: AttentionRecord, cell: tuple[int, int]) -> Look:
    """Finds what one cell attends to.

    Args:
        interaction: Number of the interaction.
        attention: What attended.
        cell: Row and column of the cell.

    Returns:
        The places and their weights.

    Raises:
        ValueError: If the kind of attention is unknown.
    """
    height, width = attention.feature.shape[:2]
    rows, columns = attention.query.shape[:2]
    module = attention.module.attn
    points: np.ndarray | None
    if isinstance(module, DeformableCrossAttention):
        query = _on_device(attention.query[cell][None], module.deform.value_proj.weight)
        query = attention.module.query_norm(query)
        sampled, weights = sampled_points(module.deform, query, (height, width))
        center = np.array([(cell[1] + 0.5) / columns, (cell[0] + 0.5) / rows])
        points = center + sampled[0]
        weights = weights[0]
    elif isinstance(module, CrossAttention):
        points, weights = None, _cell_weights(module, attention, cell)
    else:
        raise ValueError(
            f"an attention must be deformable or regular to be shown, got a {type(module).__name__}"
        )
    return Look(
        interaction,
        attention.querying,
        attention.attended,
        cell,
        (rows, columns),
        (height, width),
        points,
        weights,
    )


@torch.no_grad()
def sampled_points(
    deform: MSDeformAttn, queries: Tensor, grid: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Computes where queries sample, from the weights of a deformable attention.

    Args:
        deform: The attention, for one level.
        queries: (Q, C), behind their norm.
        grid: Rows and columns of the map that is sampled.

    Returns:
        How far from its cell's middle each query samples, (Q, M, P, 2) as (x, y) in shares of the
        map, and the weights (Q, M, P), which add up to 1 over the points of a head.
    """
    samples = (deform.num_heads, deform.num_levels * deform.num_points)
    offsets = deform.sampling_offsets(queries).float().unflatten(-1, (*samples, 2))
    weights = deform.attention_weights(queries).float().unflatten(-1, samples).softmax(-1)
    # Offsets count cells of the sampled map: Deformable DETR, https://arxiv.org/abs/2010.04159.
    height, width = grid
    shares = offsets / torch.tensor([width, height], device=offsets.device)
    return shares.cpu().numpy(), weights.cpu().numpy()


def locate(
    point: tuple[float, float], image_size: tuple[int, int], record: Record
) -> tuple[float, float]:
    """Brings a point of an image to shares of the padded image that the network got.

    Args:
        point: (x, y) in pixels of the image as it came.
        image_size: Its height and width in pixels.
        record: What happened with it.

    Returns:
        (x, y), each in [0, 1).

    Raises:
        ValueError: If the point lies outside the image.
    """
    height, width = image_size
    x, y = point
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"the point must lie in the image of {width} x {height} pixels, so x from 0 to "
            f"{width - 1} and y from 0 to {height - 1}; got x={x:g}, y={y:g}"
        )
    share_of_height, share_of_width = record.content_share
    return x / width * share_of_width, y / height * share_of_height


def _cell_weights(
    module: CrossAttention, attention: AttentionRecord, cell: tuple[int, int]
) -> np.ndarray:
    weight = module.q_proj.weight
    query = attention.module.query_norm(_on_device(attention.query[cell], weight))
    feature = _on_device(attention.feature.flatten(0, 1), weight)
    feature = attention.module.feat_norm(attention.module.feat_proj(feature))
    heads = (module.num_heads, -1)
    query = module.q_proj(query[None]).unflatten(-1, heads).transpose(0, 1)  # (M, 1, D)
    key = module.k_proj(feature).unflatten(-1, heads).transpose(0, 1)  # (M, S, D)
    logits = (query @ key.transpose(1, 2)).float() * query.shape[-1] ** -0.5
    weights = logits.softmax(-1).reshape(module.num_heads, *attention.feature.shape[:2])
    return weights.cpu().numpy()


def _on_device(x: Tensor, weight: Tensor) -> Tensor:
    return x.to(weight.device, weight.dtype)


def _cell_at(point: tuple[float, float], grid: Sequence[int]) -> tuple[int, int]:
    return int(point[1] * grid[0]), int(point[0] * grid[1])
