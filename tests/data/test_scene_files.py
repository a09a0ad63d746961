from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.data.embedded import SCENES_V1_DIGESTS
from piip_d2.data.scene_files import (
    SCENES_V1,
    SCENES_V1_SPLITS,
    scenes_digest,
    write_scenes,
)
from piip_d2.data.scenes import SceneOptions, render_scene

SMALL = SceneOptions(image_size=48, object_size=(10, 30))


def test_the_benchmark_never_changes():
    """Who changes a picture or annotation of scenes-v1 has to call it scenes-v2."""
    assert SCENES_V1_SPLITS["val"] == (200, 1)
    assert scenes_digest(SCENES_V1, 200, 1) == SCENES_V1_DIGESTS["val"]


def test_files_hold_what_was_rendered(tmp_path: Path):
    coco = write_scenes(tmp_path, SMALL, 3, 4, "some")
    assert json.loads((tmp_path / "annotations/some.json").read_text()) == coco
    assert coco["info"]["digest"] == scenes_digest(SMALL, 3, 4)
    assert [image["file_name"] for image in coco["images"]][0] == "some_000000.png"
    scene = render_scene(SMALL, 4, 2)
    written = np.asarray(Image.open(tmp_path / "some/some_000002.png"))
    assert np.array_equal(written, scene.image)
    labels = np.asarray(Image.open(tmp_path / "semantic/some/some_000002.png"))
    assert np.array_equal(labels, scene.semantic_map)
    last = [entry for entry in coco["annotations"] if entry["image_id"] == 3]
    assert [entry["category_id"] for entry in last] == [one.category + 1 for one in scene.objects]
    ids = [entry["id"] for entry in coco["annotations"]]
    assert len(set(ids)) == len(ids)


def test_no_maps_where_none_are_wanted(tmp_path: Path):
    options = SceneOptions(image_size=48, object_size=(10, 30), with_semantic_map=False)
    write_scenes(tmp_path, options, 1, 0)
    assert not (tmp_path / "semantic").exists()


def test_an_empty_series_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="num_images must be at least 1, got 0"):
        write_scenes(tmp_path, SMALL, 0, 0)
