"""Data for clicking through cross-branch attention on an HTML page."""

from __future__ import annotations

import base64
import io
from typing import Any, cast

import numpy as np
import torch
from matplotlib.colors import to_hex
from PIL import Image

from piip_d2.layers import DeformableCrossAttention, MSDeformAttn
from piip_d2.visualization.inside.attention import sampled_points
from piip_d2.visualization.inside.record import AttentionRecord, Record
from piip_d2.visualization.inside.structure import branch_labels
from piip_d2.visualization.inside.theme import branch_color, head_colors, to_picture

# Positions are written as whole numbers of 1/4096 of the image, so that 16 bits reach 8 images far.
_STEPS = 4096
# With 5 bytes each, four thirds of that in base64: a page of at most 40 MB.
_MOST_SAMPLES = 6_000_000


def explorer_data(record: Record, start: tuple[float, float]) -> dict[str, Any]:
    """Puts together what a page needs to show the attention of any cell.

    Interactions are left out, the deepest first, where there would be more than six million
    samples; regular attention is, as every cell attends to all.

    Args:
        record: What happened with the image.
        start: (x, y) of the point to begin with, as shares of the padded image.

    Returns:
        For JSON: the branches with their images, and for each direction of each interaction where
        all cells sample, and with which weights. Without any direction there is nothing to show.
    """
    labels = branch_labels(record.network)
    branches = []
    for number, label in enumerate(labels):
        height, width = record.pyramid[number].shape[-2:]
        branches.append(
            {
                "label": label,
                "color": to_hex(branch_color(number)),
                "width": width,
                "height": height,
                "image": _as_data(to_picture(record, record.pyramid[number])),
            }
        )
    looks: list[dict[str, Any]] = []
    left = _MOST_SAMPLES
    for interaction, seen in record.interactions.items():
        deformable = [
            attention
            for attention in seen.attentions
            if isinstance(attention.module.attn, DeformableCrossAttention)
        ]
        left -= sum(_num_samples(attention) for attention in deformable)
        if left < 0:
            break
        looks += [_all_cells(interaction, attention, labels) for attention in deformable]
    heads = max((look["heads"] for look in looks), default=0)
    return {
        "branches": branches,
        "looks": looks,
        "start": list(start),
        "steps": _STEPS,
        "content": list(record.content_share),
        "headColors": [to_hex(color) for color in head_colors(heads)],
    }


@torch.no_grad()
def _all_cells(interaction: int, attention: AttentionRecord, labels: list[str]) -> dict[str, Any]:
    module = attention.module
    deform = _deform(attention)
    weight = deform.value_proj.weight
    queries = attention.query.flatten(0, 1).to(weight.device, weight.dtype)
    grid = attention.feature.shape[:2]
    shares, weights = sampled_points(deform, module.query_norm(queries), (grid[0], grid[1]))
    steps = np.clip(np.round(shares * _STEPS), -32768, 32767).astype("<i2")
    return {
        "interaction": interaction,
        "querying": attention.querying,
        "attended": attention.attended,
        "title": f"interaction {interaction}: {labels[attention.querying]} reads "
        f"{labels[attention.attended]}",
        "grid": list(attention.query.shape[:2]),
        "attendedGrid": list(grid),
        "heads": deform.num_heads,
        "points": deform.num_points,
        "offsets": _base64(steps.tobytes()),
        "weights": _base64(np.round(weights * 255).astype(np.uint8).tobytes()),
    }


def _num_samples(attention: AttentionRecord) -> int:
    deform = _deform(attention)
    return attention.query.shape[:2].numel() * deform.num_heads * deform.num_points


def _deform(attention: AttentionRecord) -> MSDeformAttn:
    return cast(DeformableCrossAttention, attention.module.attn).deform


def _as_data(picture: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(content, format="PNG")
    return f"data:image/png;base64,{_base64(content.getvalue())}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
