from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detectron2.data import transforms as T
from pycocotools import mask as mask_api

from piip_d2.data.mask_transforms import clip_polygon, draw_masks, transform_polygons

HEIGHT, WIDTH = 40, 60
SQUARE = np.asarray([[10.0, 8.0], [30.0, 8.0], [30.0, 28.0], [10.0, 28.0]])
# A comb: what is left of it to the right of x = 20 are two teeth.
COMB = np.asarray(
    [[4, 4], [40, 4], [40, 12], [16, 12], [16, 20], [40, 20], [40, 28], [4, 28]], dtype=float
)
STEPS: dict[str, list[T.Transform]] = {
    "resize and flip": [T.ResizeTransform(HEIGHT, WIDTH, 57, 83), T.HFlipTransform(83)],
    "crop and flip": [T.CropTransform(12, 5, 30, 20), T.VFlipTransform(20)],
    "shrink and pad": [T.ResizeTransform(HEIGHT, WIDTH, 17, 31), T.PadTransform(2, 3, 4, 5)],
    "colour": [T.BlendTransform(0.0, 0.5, 0.5), T.NoOpTransform()],
    "rotate and pad": [T.RotationTransform(HEIGHT, WIDTH, 20), T.PadTransform(0, 0, 3, 3)],
}


def _run_lengths(polygon: np.ndarray) -> dict[str, Any]:
    return mask_api.merge(mask_api.frPyObjects([polygon.reshape(-1)], HEIGHT, WIDTH))


def _size(steps: list[T.Transform]) -> tuple[int, int]:
    image = T.TransformList(steps).apply_image(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return image.shape[:2]


@pytest.mark.parametrize("name", STEPS)
def test_run_lengths_are_what_transforms_make_of_the_whole_mask(name: str):
    steps, run_lengths = STEPS[name], _run_lengths(COMB)
    size = _size(steps)
    drawn, is_left = draw_masks([run_lengths], T.TransformList(steps), (HEIGHT, WIDTH), size)
    expected = mask_api.decode(run_lengths)
    for step in steps:
        if isinstance(step, T.PadTransform):
            step = T.PadTransform(step.x0, step.y0, step.x1, step.y1, pad_value=0, seg_pad_value=0)
        expected = step.apply_segmentation(expected)
    assert np.array_equal(drawn[0], expected.astype(bool))
    assert is_left.tolist() == [True]


@pytest.mark.parametrize("name", STEPS)
def test_polygons_follow_coordinates(name: str):
    steps = T.TransformList(STEPS[name])
    size = _size(STEPS[name])
    (outlines,) = transform_polygons([[SQUARE]], steps)
    drawn, _ = draw_masks([[SQUARE]], steps, (HEIGHT, WIDTH), size)
    flat = [points.reshape(-1) for points in outlines]
    expected = mask_api.decode(mask_api.merge(mask_api.frPyObjects(flat, *size)))
    assert np.array_equal(drawn[0], expected.astype(bool))
    # The drawing of the file, treated the same way, differs along the border alone.
    around, _ = draw_masks([_run_lengths(SQUARE)], steps, (HEIGHT, WIDTH), size)
    assert (around[0] != drawn[0]).sum() <= 0.12 * drawn[0].sum() + 8


def test_clipping_by_hand():
    # The window takes a quarter of the square.
    clipped = clip_polygon(SQUARE - [20.0, 18.0], 100, 100)
    assert sorted(map(tuple, clipped.tolist())) == [(0, 0), (0, 10), (10, 0), (10, 10)]
    assert clip_polygon(SQUARE, 100, 100) is SQUARE
    assert len(clip_polygon(SQUARE - [50.0, 0.0], 100, 100)) == 0
    # It only touches the window.
    assert len(clip_polygon(SQUARE - [30.0, 0.0], 100, 100)) == 0


def test_a_polygon_may_fall_apart():
    crop = T.CropTransform(20, 0, 30, 40)
    drawn, _ = draw_masks([[COMB]], T.TransformList([crop]), (HEIGHT, WIDTH), (40, 30))
    whole = mask_api.decode(_run_lengths(COMB))[:, 20:50]
    assert np.array_equal(drawn[0], whole.astype(bool))


def test_what_is_cut_off_is_nothing_any_more():
    crops = T.TransformList([T.CropTransform(40, 0, 20, 40), T.CropTransform(0, 0, 10, 10)])
    assert transform_polygons([[SQUARE, COMB], []], crops) == [[], []]
    masks = [[SQUARE], _run_lengths(SQUARE)]
    drawn, is_left = draw_masks(masks, crops, (HEIGHT, WIDTH), (10, 10))
    assert not drawn.any()
    assert is_left.tolist() == [False, False]


def test_a_transform_may_have_a_way_of_its_own():
    class Doubling(T.NoOpTransform):
        def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
            return polygons * 2

    assert len(transform_polygons([[SQUARE]], T.TransformList([Doubling()]))[0]) == 2
