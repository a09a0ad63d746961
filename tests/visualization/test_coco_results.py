"""Results are complete on disk after every image, and pycocotools reads them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from piip_d2.visualization.coco_results import COCOResultsWriter, JSONListFile


def _instances(count: int) -> Instances:
    instances = Instances((40, 50))
    instances.pred_boxes = Boxes(torch.tensor([[2.0, 4.0, 12.0, 10.0]]).repeat(count, 1))
    instances.scores = torch.linspace(0.9, 0.5, count)
    instances.pred_classes = torch.arange(count) % 2
    masks = torch.zeros(count, 40, 50, dtype=torch.bool)
    masks[:, 4:10, 2:12] = True
    instances.pred_masks = masks
    return instances


def test_list_is_complete_after_every_step(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("x" * 1000)
    file = JSONListFile(path)
    expected: list[dict[str, int]] = []
    assert json.loads(path.read_text()) == expected
    for entries in ([{"a": 1}], [], [{"b": 2}, {"c": 3}]):
        file.extend(entries)
        expected += entries
        assert json.loads(path.read_text()) == expected
    file.close()
    assert file.num_entries == 3


class _FullDisk:
    """A file on a disk that takes a few more bytes and then no more."""

    def __init__(self, file: object, room: int) -> None:
        self._file = file
        self._room = room

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        end = self._file.tell() + len(data)  # type: ignore[attr-defined]
        if end <= self._room:
            return self._file.write(data)  # type: ignore[attr-defined, no-any-return]
        self._file.write(data[: self._room - end])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    file = JSONListFile(path)
    file.extend([{"a": 1}])
    file._file = _FullDisk(file._file, room=40)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left on device.*; its first 1 entries are kept"):
        file.extend([{"long": "x" * 100}])
    assert json.loads(path.read_text()) == [{"a": 1}]
    file.extend([{"b": 2}])
    assert json.loads(path.read_text()) == [{"a": 1}, {"b": 2}]


def test_both_files_load_together(tmp_path: Path) -> None:
    with COCOResultsWriter(tmp_path, class_names=["cat", "dog"], category_ids=[3, 17]) as results:
        results.add(5, "a.png", _instances(3))
        results.note_drawing("a_drawn.png")
        results.add(8, "b.png", _instances(0))
        assert len(json.loads(results.predictions_path.read_text())) == 3
    assert results.num_objects == 3
    truth = COCO(str(tmp_path / "images.json"))
    loaded = truth.loadRes(str(tmp_path / "predictions.json"))
    assert truth.getImgIds() == [5, 8]
    assert [category["name"] for category in truth.loadCats([17])] == ["dog"]
    entries = loaded.loadAnns(loaded.getAnnIds(imgIds=[5]))
    assert [entry["category_id"] for entry in entries] == [3, 17, 3]
    assert entries[0]["bbox"] == [2.0, 4.0, 10.0, 6.0]
    assert loaded.annToMask(entries[0]).sum() == 60
    assert entries[0]["file_name"] == "a.png"
    assert truth.imgs[5] == {
        "id": 5, "file_name": "a.png", "width": 50, "height": 40, "drawing": "a_drawn.png"
    }  # fmt: skip


def test_classes_without_names_keep_their_index(tmp_path: Path) -> None:
    with COCOResultsWriter(tmp_path, prefix="x_") as results:
        results.add(1, "a.png", _instances(2))
    entries = json.loads((tmp_path / "x_predictions.json").read_text())
    assert [entry["category_id"] for entry in entries] == [0, 1]
    assert json.loads((tmp_path / "x_images.json").read_text())["categories"] == []


def test_images_are_listed_even_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), COCOResultsWriter(tmp_path) as results:
        results.add(1, "a.png", _instances(1))
        raise KeyboardInterrupt
    assert len(json.loads((tmp_path / "images.json").read_text())["images"]) == 1
