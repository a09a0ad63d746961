from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_api

from piip_d2.data.mask_outlines import mask_box, mask_to_segmentation, uncompressed_rle


def _canvas() -> np.ndarray:
    return np.zeros((20, 30), dtype=bool)


def test_a_rectangle_has_the_outline_of_its_corners():
    mask = _canvas()
    mask[4:10, 5:25] = True
    (polygon,) = mask_to_segmentation(mask)
    points = np.reshape(polygon, (-1, 2))
    # Corners are cut by half a pixel, since the line joins the middles of pixel edges.
    assert len(points) <= 8
    assert points.min(axis=0) == pytest.approx([5, 4], abs=0.5)
    assert points.max(axis=0) == pytest.approx([25, 10], abs=0.5)
    assert mask_box(mask) == [5.0, 4.0, 20.0, 6.0]


def test_a_disc_keeps_its_area():
    y, x = np.mgrid[:100, :100]
    mask = (x - 50) ** 2 + (y - 40) ** 2 < 35**2
    polygon = mask_to_segmentation(mask)
    drawn = mask_api.decode(mask_api.merge(mask_api.frPyObjects(polygon, 100, 100))).astype(bool)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97
    assert len(polygon[0]) < 100


@pytest.mark.parametrize("kind", ["hole", "two pieces", "touching at a corner", "single line"])
def test_what_has_no_single_outline_becomes_run_lengths(kind: str):
    mask = _canvas()
    mask[2:12, 2:12] = True
    if kind == "hole":
        mask[5:7, 5:7] = False
    elif kind == "two pieces":
        mask[14:18, 20:25] = True
    elif kind == "touching at a corner":
        mask[12:16, 12:16] = True
    else:
        mask[:] = False
        mask[3, 4] = True
        mask[9, 9] = True
    segmentation = mask_to_segmentation(mask)
    assert isinstance(segmentation, dict)
    assert np.array_equal(mask_api.decode(segmentation), mask)


@pytest.mark.parametrize("first_pixel", [False, True])
def test_uncompressed_run_lengths_are_read_back(first_pixel: bool):
    mask = _canvas()
    mask[3:9, 4:20] = True
    mask[0, 0] = first_pixel
    encoded = uncompressed_rle(mask)
    assert sum(encoded["counts"]) == mask.size
    assert np.array_equal(mask_api.decode(mask_api.frPyObjects(encoded, 20, 30)), mask)
