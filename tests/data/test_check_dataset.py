"""The command-line tool that checks a data set, and what it draws."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from piip_d2.data.dataset_report import check_split, describe_splits
from piip_d2.data.mask_outlines import encode_rle
from piip_d2.visualization.dataset_sheet import draw_dataset_sheet

from .conftest import Coco, Writer

ROOT = Path(__file__).resolve().parents[2]
QUICK = str(ROOT / "configs/quick/mask_rcnn_scenes.py")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["check_dataset.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        runpy.run_path(str(ROOT / "tools" / "check_dataset.py"), run_name="__main__")
    return int(ending.value.code or 0)


def test_all_at_once(
    coco: Coco,
    write_coco: Writer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coco["annotations"][0]["bbox"] = [1, 1, 0, 0]
    coco["images"][5]["width"] = 33
    train, folder = write_coco(coco)
    Image.new("RGB", (32, 48)).save(folder / "5.png")
    val = tmp_path / "val.json"
    objects = [entry for entry in coco["annotations"] if entry["category_id"] == 7]
    val.write_text(json.dumps(coco | {"images": coco["images"][:2], "annotations": objects[:2]}))
    sheet = tmp_path / "sheet.png"
    pyramid = ("--config-file", QUICK)
    arguments = (train, "--images", folder, "--val", val, "--output", sheet, *pyramid)
    assert _run(monkeypatch, *arguments) == 0
    report = capsys.readouterr().out
    assert "6 images (0 without objects), 11 objects of 2 classes, 5 masks" in report
    assert "1 x box without area (annotation 1 of image 0)" in report
    assert "1 x image of another size than the JSON says: left out of training, its" in report
    assert "objects count as missed in evaluation (5.png)" in report
    assert "2 of the 2 images of val are also in train (0.png, 1.png): what" in report
    assert "6 of 11 objects of" in report
    assert (
        "| 0       | 3                | early  | 6                  | 0                |" in report
    )
    assert "1 of the classes have no object in val: early" in report
    assert "| below 4                | smaller than a cell of p2, the finest map |" in report
    with Image.open(sheet) as drawn:
        assert drawn.width > 1000


def test_a_json_alone(
    coco: Coco,
    write_coco: Writer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    json_file, folder = write_coco(coco)
    # Without --images, file names start from the folder of the JSON.
    beside = folder / "all.json"
    beside.write_bytes(json_file.read_bytes())
    assert _run(monkeypatch, beside) == 0
    report = capsys.readouterr().out
    assert "Left out" not in report and "To be looked at" not in report


def test_mistakes_are_a_sentence(
    coco: Coco,
    write_coco: Writer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, tmp_path / "none.json") == 1
    assert capsys.readouterr().err.startswith("error: there must be a COCO-format JSON at")
    # Before the data are looked at, which takes long.
    assert _run(monkeypatch, tmp_path / "none.json", "--output", tmp_path / "no" / "x.png") == 1
    assert "error: --output must lie in a folder that there is" in capsys.readouterr().err
    json_file, folder = write_coco(coco)
    coco["categories"][0]["name"] = "other"
    (tmp_path / "val.json").write_text(json.dumps(coco))
    assert _run(monkeypatch, json_file, "--images", folder, "--val", tmp_path / "val.json") == 1
    assert "must list the same categories in the same order" in capsys.readouterr().err


def test_nothing_shared(coco: Coco, write_coco: Writer, tmp_path: Path) -> None:
    json_file, folder = write_coco(coco)
    halves = []
    for name, numbers in {"train": (0, 1, 2), "val": (3, 4)}.items():
        images = [coco["images"][number] for number in numbers]
        entries = [entry for entry in coco["annotations"] if entry["image_id"] in numbers]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(coco | {"images": images, "annotations": entries}))
        halves.append(check_split(name, path, folder))
    report = describe_splits(dict(zip(("train", "val"), halves, strict=True)))
    assert "No image of val is in train." in report
    assert f"No object of {tmp_path / 'val.json'} has a mask: take a detector of boxes" in report


def test_the_sheet_says_what_it_shows(coco: Coco, write_coco: Writer) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[2:10, 2:12] = True
    coco["annotations"][0]["segmentation"] = encode_rle(mask)
    coco["annotations"][1].update(iscrowd=1)
    coco["annotations"] = coco["annotations"][:4] + coco["annotations"][6:]
    json_file, folder = write_coco(coco)
    (folder / "4.png").write_bytes(b"damaged")
    figure = draw_dataset_sheet({"train": check_split("train", json_file, folder)}, num_images=6)
    texts = [text.get_text() for text in figure.texts]
    assert texts[0].startswith("Annotations as training sees them")
    assert "train: 9 objects in 6 images of some.json" in texts[1]
    assert "train: 0.png\n1 late; 1 crowd (not drawn)" in texts
    assert "train: 2.png\nno objects" in texts
    assert not any("4.png" in text for text in texts)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["early", "late", "filled: the object has a mask"]
    # Of two objects, one with a mask, both boxes are drawn, and one is filled.
    first, second = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert len(figure.axes) == 5 and not np.array_equal(first, second)


def test_images_of_another_size_are_counted(coco: Coco, write_coco: Writer) -> None:
    json_file, folder = write_coco(coco)
    split = check_split("train", json_file, folder)
    for name in ("1.png", "3.png"):
        Image.new("RGB", (9, 9)).save(folder / name)
    figure = draw_dataset_sheet({"train": split}, num_images=6)
    texts = [text.get_text() for text in figure.texts]
    header = " ".join(texts[1:3])
    assert "4 images, evenly spaced; 2 of another size than the JSON says left out" in header
    for record in split.records:
        Image.new("RGB", (9, 9)).save(record["file_name"])
    with pytest.raises(ValueError, match="found none but 6 of another size than the JSON says"):
        draw_dataset_sheet({"train": split})


def test_no_image_to_show(coco: Coco, write_coco: Writer) -> None:
    json_file, folder = write_coco(coco)
    split = check_split("train", json_file, folder)
    with pytest.raises(ValueError, match="num_images must be at least 1, got 0"):
        draw_dataset_sheet({"train": split}, num_images=0)
    for file in folder.iterdir():
        file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="at least one image that can be read, found none"):
        draw_dataset_sheet({"train": split})
