"""Feature maps as colours: three principal components as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

# The rest of the values, at both ends, is drawn in the strongest colours there are.
_QUANTILES = (0.02, 0.98)


@dataclass(frozen=True)
class ColoredMaps:
    """Maps in colours that mean the same in all of them.

    Args:
        pictures: One (H, W, 3) in [0, 1] per map, RGB.
        explained: Share of the maps' variance that the three components hold, in [0, 1].
    """

    pictures: list[np.ndarray]
    explained: float


def color_maps(
    maps: Sequence[Tensor], content_share: tuple[float, float], *, with_norm: bool = True
) -> ColoredMaps:
    """Shows the three directions that the cells of some maps differ most along as colours.

    The basis is common to all maps, so that equal colours are equal features in all of them.
    Cells of padding are coloured but have no say in the basis.

    Args:
        maps: Each (H, W, C) with the same C.
        content_share: Share of the height and the width that is no padding.
        with_norm: Whether every cell is brought to mean 0 and deviation 1 over its channels before,
            as the layer norms of a transformer do; without it, deep maps outshine early ones.

    Returns:
        The colours.

    Raises:
        ValueError: If there is no map, or their channels differ.
    """
    channels = {x.shape[-1] for x in maps}
    if len(channels) != 1:
        raise ValueError(
            "maps with a common basis must have the same channels, at least one map; got "
            f"{sorted(channels)}"
        )
    if with_norm:
        maps = [layer_norm(x, x.shape[-1:]) for x in maps]
    cells = torch.cat([_content(x, content_share).flatten(0, 1) for x in maps]).double()
    mean = cells.mean(0)
    variances, directions = _principal_directions(cells - mean)
    projected = (cells - mean) @ directions
    low, high = (torch.quantile(projected, share, dim=0) for share in _QUANTILES)
    spread = (high - low).clamp(min=torch.finfo(torch.float32).tiny)
    pictures = [
        ((((x.double() - mean) @ directions) - low) / spread).clamp(0, 1).numpy() for x in maps
    ]
    total = float(variances.sum())
    explained = float(variances[:3].sum()) / total if total > 0 else 1.0
    return ColoredMaps(pictures, explained)


def relative_change(before: Tensor, after: Tensor) -> np.ndarray:
    """How much the vector of each cell changed, relative to its length before.

    Args:
        before: (H, W, C).
        after: (H, W, C).

    Returns:
        (H, W), 0 for no change and 1 for a change as long as the vector was.
    """
    length = before.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    return ((after - before).norm(dim=-1) / length).numpy()


def content_cells(grid: Sequence[int], content_share: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of a grid that hold something of the image, one each at least."""
    rows, columns = (
        # A cell that ends at the image's edge but for a rounding error holds no padding.
        max(1, int(np.ceil(cells * share - 1e-6)))
        for cells, share in zip(grid, content_share, strict=True)
    )
    return rows, columns


def _content(x: Tensor, content_share: tuple[float, float]) -> Tensor:
    rows, columns = content_cells(x.shape[:2], content_share)
    return x[:rows, :columns]


def _principal_directions(centered: Tensor) -> tuple[Tensor, Tensor]:
    """Variances along all directions, descending, and the first three directions (C, 3)."""
    covariance = centered.T @ centered / len(centered)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, :3]
    # A direction and its opposite are as good: the strongest channel decides, so that pictures
    # come out the same everywhere.
    strongest = vectors.abs().argmax(0, keepdim=True)
    vectors = vectors * vectors.gather(0, strongest).sign()
    missing = 3 - vectors.shape[1]
    return values, torch.nn.functional.pad(vectors, (0, missing))
