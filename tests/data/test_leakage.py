from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip_d2.data.checks import check_coco
from piip_d2.data.leakage import SharedImages, find_shared_images

from .conftest import Coco, Writer


@pytest.fixture
def splits(coco: Coco, write_coco: Writer, tmp_path: Path) -> tuple[Any, Any]:
    """Two folders: a copy, a copy of another name, three namesakes, and an image of its own."""
    json_file, folder = write_coco(coco)
    _, train = check_coco(coco, json_file, folder)
    copies = tmp_path / "copies" / "deep"
    copies.mkdir(parents=True)
    other = json.loads(json.dumps(coco))
    for number, image in enumerate(other["images"]):
        image["file_name"] = f"deep/{number}.png"
        picture = Image.new("RGB", (image["width"], image["height"]), "red")
        picture.save(copies / f"{number}.png")
    (copies / "0.png").write_bytes((folder / "0.png").read_bytes())
    (copies / "renamed.png").write_bytes((folder / "5.png").read_bytes())
    other["images"][1]["file_name"] = "deep/renamed.png"
    other["images"][2]["file_name"] = "deep/own.png"
    Image.new("RGB", (48, 32), "blue").save(copies / "own.png")
    _, val = check_coco(other, json_file, tmp_path / "copies")
    return train, val


def test_copies_are_found_under_any_name(splits: tuple[Any, Any]) -> None:
    shared = find_shared_images(*splits)
    assert shared.same_content == ("deep/0.png", "deep/renamed.png")
    assert shared.same_name == ("deep/3.png", "deep/4.png", "deep/5.png")


def test_files_of_one_size_are_read(
    splits: tuple[Any, Any], tmp_path: Path, coco: Coco, write_coco: Writer
) -> None:
    # They differ in a single byte, outside of the sample.
    folders = [tmp_path / name for name in ("one", "two")]
    summaries = []
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "a.bin").write_bytes(bytes(20000) + bytes([number]))
        content = {**coco, "images": coco["images"][:1], "annotations": []}
        content["images"] = [{**coco["images"][0], "file_name": "a.bin"}]
        summaries.append(check_coco(content, folder, folder)[1])
    assert find_shared_images(*summaries) == SharedImages((), ("a.bin",))


def test_the_same_file_is_shared(splits: tuple[Any, Any]) -> None:
    train, _ = splits
    assert len(find_shared_images(train, train).same_content) == 6


def test_files_of_one_size_are_not_compared_pair_by_pair(tmp_path: Path, coco: Coco) -> None:
    comparisons = []

    class _Counted(type(Path())):
        def __eq__(self, other: object) -> bool:
            comparisons.append(other)
            return super().__eq__(other)

        __hash__ = type(Path()).__hash__

    splits = []
    for folder, count in ((tmp_path / "train", 60), (tmp_path / "val", 20)):
        folder.mkdir()
        names = [f"{number}.bmp" for number in range(count)]
        for number, name in enumerate(names):
            # Every other one shows the same in the middle, where samples are taken.
            content = bytes([number]) + bytes(20000)
            if number % 2:
                content = 20001 * bytes([number + (folder.name == "val" and number < 10)])
            (folder / name).write_bytes(content)
        images = [{**coco["images"][0], "id": n, "file_name": name} for n, name in enumerate(names)]
        _, summary = check_coco({**coco, "images": images, "annotations": []}, folder, folder)
        splits.append(replace(summary, image_root=_Counted(folder)))
    shared = find_shared_images(*splits)
    assert len(shared.same_content) == 15
    assert len(shared.same_name) == 5
    assert len(comparisons) < 4 * 80


def test_sentences_name_some() -> None:
    shared = SharedImages(("a", "b", "c", "d"), ("e",))
    first, second = shared.sentences("train", "val", 9)
    assert first.startswith("4 of the 9 images of val are also in train (a, b, c, ...): what is")
    assert second.startswith("1 of the 9 images of val have the file name of one in train, with")
    assert SharedImages((), ()).sentences("train", "val", 9) == []
