"""Mistakes of callers: each gives one sentence with the rule and what was seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from piip_d2.ops import ms_deform_attn, ms_deform_attn_fused

VALUE = torch.zeros(2, 14, 2, 3)
POINTS = torch.zeros(2, 6, 2, 2, 4, 2)
WEIGHTS = torch.zeros(2, 6, 2, 2, 4)
BOXES = torch.zeros(2, 6, 2, 4)
SHAPES = [(3, 4), (2, 1)]

MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"value": torch.zeros(2, 14, 6)},
        ValueError,
        r"value must be \(B, S, M, D\), got \(2, 14, 6\)",
    ),
    ({"value": torch.zeros(2, 14, 2, 0)}, ValueError, "a head and a channel at least"),
    (
        {"value": VALUE.int()},
        TypeError,
        r"value must be float32.*got torch.int32; .*value.float\(\)",
    ),
    ({"value": [1.0]}, TypeError, "value must be a tensor, got list"),
    ({"value": VALUE[:1]}, ValueError, "1 images and 2 heads of value.* got 2 images"),
    ({"shapes": [(3, 4), (2, 2)]}, ValueError, "got 14 positions where .* has 16"),
    ({"shapes": [(3, 4), (2, 1), (0, 3)]}, ValueError, "must be positive"),
    ({"shapes": [(14, 1)]}, ValueError, "1 levels of spatial_shapes, got .* 2 levels"),
    ({"shapes": []}, ValueError, "of a level at least"),
    ({"shapes": [3, 4, 2, 1]}, ValueError, r"must be pairs, \[\(height, width\), ...\]"),
    ({"shapes": [(3, 4, 1), (2, 1, 1)]}, ValueError, "must be pairs"),
    ({"shapes": [(3.0, 4), (2, 1)]}, TypeError, r"got float and int; convert them with int\(\)"),
    ({"shapes": torch.tensor(SHAPES)}, TypeError, r"got a tensor; .*spatial_shapes.tolist\(\)"),
    ({"shapes": torch.tensor(SHAPES).unbind()}, TypeError, "host integers, got Tensor and Tensor"),
    ({"points": POINTS[..., :1]}, ValueError, r"{points} must be \(B, Q, M, L, P, 2\)"),
    ({"points": POINTS[0]}, ValueError, r"{points} must be \(B, Q, M, L, P, 2\)"),
    ({"points": POINTS[:, :, :1]}, ValueError, "got 2 images, 1 heads and 2 levels"),
    ({"points": POINTS[..., :0, :]}, ValueError, "{points} must have a point per level"),
    ({"points": POINTS.long()}, TypeError, "{points} must be float32.*got torch.int64"),
    (
        {"points": POINTS.to("meta")},
        ValueError,
        "one device, got {points} on meta and others on cpu",
    ),
    (
        {"weights": WEIGHTS[..., :3]},
        ValueError,
        "{weights} must have the shape of {points} without",
    ),
    ({"weights": WEIGHTS.bool()}, TypeError, "{weights} must be float32.*got torch.bool"),
    ({"weights": WEIGHTS.to("meta")}, ValueError, "got {weights} on meta"),
]

FUSED_MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "give either reference_points or query_grid, got neither"),
    ({"reference_points": BOXES, "query_grid": (2, 3)}, ValueError, "or query_grid, got both"),
    ({"reference_points": BOXES[0]}, ValueError, r"must be \(B, Q, L, 2\) or \(B, Q, L, 4\)"),
    ({"reference_points": BOXES[..., :3]}, ValueError, "must end in 2 .* or 4 .*, got .* 3"),
    (
        {"reference_points": BOXES[:, :5]},
        ValueError,
        r"2 \(or 1\) images, 6 queries and 2 \(or 1\)",
    ),
    ({"reference_points": BOXES.expand(3, 2, 6, 2, 4)[:, 0]}, ValueError, "for 2 .or 1. images"),
    ({"reference_points": BOXES.repeat(1, 1, 2, 1)}, ValueError, "2 .or 1. levels"),
    ({"reference_points": BOXES.int()}, TypeError, "reference_points must be float32"),
    ({"reference_points": BOXES.to("meta")}, ValueError, "reference_points on meta"),
    ({"query_grid": (2, 4)}, ValueError, r"a grid of the 6 queries, got \(2, 4\)"),
    ({"query_grid": (-2, -3)}, ValueError, r"positive \(rows, columns\)"),
    ({"query_grid": (6,)}, ValueError, r"query_grid must be \(rows, columns\)"),
    ({"query_grid": (2.0, 3.0)}, TypeError, r"two host integers \(rows, columns\)"),
]


def numbered(mistakes: list[tuple[dict[str, Any], type[Exception], str]]) -> list[Any]:
    return [
        pytest.param(*mistake, id=f"{index}-{'-'.join(mistake[0])}")
        for index, mistake in enumerate(mistakes)
    ]


def arguments(change: dict[str, Any]) -> list[Any]:
    usual = {"value": VALUE, "shapes": SHAPES, "points": POINTS, "weights": WEIGHTS}
    return list({**usual, **change}.values())


@pytest.mark.parametrize(("change", "error", "message"), numbered(MISTAKES))
def test_both_forms(change: dict[str, Any], error: type[Exception], message: str) -> None:
    plain = {"points": "sampling_locations", "weights": "attention_weights"}
    fused = {"points": "sampling_offsets", "weights": "attention_logits"}
    with pytest.raises(error, match=fill(message, plain)):
        ms_deform_attn(*arguments(change))
    with pytest.raises(error, match=fill(message, fused)):
        ms_deform_attn_fused(*arguments(change), query_grid=(2, 3))


def fill(message: str, names: dict[str, str]) -> str:
    for name, text in names.items():
        message = message.replace(f"{{{name}}}", text)
    return message


@pytest.mark.parametrize(("change", "error", "message"), numbered(FUSED_MISTAKES))
def test_fused_form(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        ms_deform_attn_fused(VALUE, SHAPES, POINTS, WEIGHTS, **change)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "shapes", [((3, 4), (2, 1)), [[3, 4], [2, 1]], [torch.Size((3, 4)), (2, 1)]]
)
def test_any_sequence_of_pairs_will_do(implementation: str, shapes: Any) -> None:
    value: Tensor = torch.rand(2, 14, 2, 3)
    assert ms_deform_attn(value, shapes, POINTS, WEIGHTS).shape == (2, 6, 6)
