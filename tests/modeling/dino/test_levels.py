"""Padding masks, valid ratios, places of cells, and their encodings."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from piip_d2.modeling.dino.levels import describe_levels
from piip_d2.modeling.dino.position_encoding import SinePositionEncoding, encode_boxes
from piip_d2.modeling.dino.query_selection import propose_boxes

PADDED = (224, 448)
SIZES = [(224, 448), (161, 300), (1, 447), (100, 17)]
SHAPES = [(28, 56), (14, 28), (7, 14), (4, 7)]
CPU = torch.device("cpu")


def test_masks_are_those_of_resizing_whole_images() -> None:
    levels = describe_levels(SHAPES, SIZES, PADDED, CPU)
    images = torch.ones(len(SIZES), *PADDED)
    for image, (height, width) in zip(images, SIZES, strict=True):
        image[:height, :width] = 0
    for shape, mask in zip(SHAPES, levels.padding_masks, strict=True):
        expected = F.interpolate(images[None], size=shape)[0].bool()
        assert torch.equal(mask, expected)
    assert levels.padding.shape == (len(SIZES), sum(h * w for h, w in SHAPES))


def test_ratios_count_the_first_row_and_column() -> None:
    levels = describe_levels(SHAPES, SIZES, PADDED, CPU)
    for number, mask in enumerate(levels.padding_masks):
        across = (~mask[:, 0, :]).float().mean(dim=1)
        down = (~mask[:, :, 0]).float().mean(dim=1)
        expected = torch.stack([across, down], dim=1)
        torch.testing.assert_close(levels.valid_ratios[:, number], expected)


def test_centers_by_hand() -> None:
    # A map of 2 x 4 cells of 8 pixels, of which the image covers the left 2 x 3.
    levels = describe_levels([(2, 4)], [(16, 24)], (16, 32), CPU)
    (centers,) = levels.centers()
    row = [0.5 / 3, 1.5 / 3, 2.5 / 3, 3.5 / 3]
    expected = [[x, y] for y in (0.25, 0.75) for x in row]
    torch.testing.assert_close(centers, torch.tensor([expected]))


def test_proposals_stay_inside() -> None:
    levels = describe_levels(SHAPES, SIZES, PADDED, CPU)
    logits, is_usable = propose_boxes(levels)
    boxes = logits.sigmoid()
    assert not (is_usable & levels.padding).any()
    assert (boxes[is_usable] > 0.01).all() and (boxes[is_usable] < 0.99).all()
    first = 0
    for level, (height, width) in enumerate(SHAPES):
        end = first + height * width
        sides = boxes[:, first:end, 2:][is_usable[:, first:end]]
        torch.testing.assert_close(sides, torch.full_like(sides, 0.05 * 2**level))
        first = end


def test_encoding_by_hand() -> None:
    # Second of three rows, first of two columns; two frequencies per axis.
    mask = torch.zeros(1, 4, 2, dtype=torch.bool)
    mask[:, 3:] = True
    encoded = SinePositionEncoding(8, temperature=20.0)(mask)
    assert encoded.shape == (1, 4, 2, 8)
    angles = [2 / 3 * 2 * math.pi, 1 / 2 * 2 * math.pi]
    expected = [
        wave(angle / divisor)
        for angle in angles
        for divisor in (1.0, math.sqrt(20.0))
        for wave in (math.sin, math.cos)
    ]
    torch.testing.assert_close(encoded[0, 1, 0], torch.tensor(expected), atol=1e-5, rtol=0)


def test_offset_moves_the_encoding() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    plain, moved = (SinePositionEncoding(8, offset=offset)(mask) for offset in (0.0, -1.0))
    torch.testing.assert_close(moved[:, 1:, 1:], plain[:, :-1, :-1])


def test_boxes_are_encoded_y_first() -> None:
    boxes = torch.tensor([0.1, 0.2, 0.3, 0.4])
    encoded = encode_boxes(boxes, 16).view(4, 8)
    expected = torch.sin(torch.tensor([0.2, 0.1, 0.3, 0.4]) * 2 * math.pi)
    torch.testing.assert_close(encoded[:, 0], expected)


def test_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="embed_dim .10. must be a multiple of 4"):
        SinePositionEncoding(10)
