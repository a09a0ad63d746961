"""Labels of boxes stay in the image, and off each other and the edges of other boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from piip_d2.visualization.label_places import LabelPlace, place_labels
from piip_d2.visualization.point_labels import covered_area

EXTENT = (200.0, 200.0)
SIZE = (60.0, 10.0)


def _box(place: LabelPlace) -> np.ndarray:
    corner = np.array(place.corner)
    return np.concatenate([corner, corner + SIZE])


def test_free_label_stands_above_its_box() -> None:
    (place,) = place_labels([np.array([50.0, 60, 150, 90])], [SIZE], EXTENT)
    assert place == LabelPlace((50.0, 50.0), None)


def test_labels_of_close_boxes_do_not_pile_up() -> None:
    boxes = [np.array([80.0 + n, 80 + n, 120 + n, 120 + n]) for n in range(6)]
    places = place_labels(boxes, [SIZE] * 6, EXTENT)
    labels = [_box(place) for place in places]
    for first, second in itertools.combinations(labels, 2):
        assert covered_area(first, second[None]) == 0
    for label in labels:
        assert (label[:2] >= 1).all() and (label[2:] < 200).all()


def test_joint_leads_from_the_label_to_its_box() -> None:
    boxes = [np.array([80.0, 80, 120, 120])] * 8
    joined = [place for place in place_labels(boxes, [SIZE] * 8, EXTENT) if place.joint]
    assert joined
    for place in joined:
        label, (start, end) = _box(place), place.joint
        assert label[0] <= start[0] <= label[2] and label[1] <= start[1] <= label[3]
        assert 80 <= end[0] <= 120 and 80 <= end[1] <= 120


def test_label_keeps_off_edges_of_boxes_without_labels() -> None:
    mine, other = np.array([50.0, 60, 150, 90]), np.array([40.0, 55, 160, 100])
    (place,) = place_labels([mine, other], [SIZE], EXTENT)
    top = np.array([[40.0, 54, 160, 56]])
    assert covered_area(_box(place), top) == 0


@pytest.mark.parametrize("corner", [(0, 0), (195, 195)])
def test_label_wider_than_the_image_begins_inside(corner: tuple[float, float]) -> None:
    box = np.array([*corner, corner[0] + 5, corner[1] + 5], dtype=float)
    (place,) = place_labels([box], [(300.0, 10.0)], EXTENT)
    assert place.corner[0] == 1
    assert place_labels([box], [], EXTENT) == []
