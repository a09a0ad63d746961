"""A foreign data set goes all the way: check, training, evaluation, class names, predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.data import MetadataCatalog

from piip_d2.data import get_dataset_dicts, register_coco_json
from piip_d2.data.image_reading import read_image
from piip_d2.predictor import Predictor
from tests.engine.runs import run, undone_process_state

from .foreign import CATEGORIES, HEIGHT, MISSING, WIDTH, write_foreign

ROOT = Path(__file__).resolve().parents[2]
QUICK = str(ROOT / "configs/quick/mask_rcnn_scenes.py")
# In the order of their ids.
CLASS_NAMES = ["Käfer", "cat", "собака"]

_SMALL = [
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "train.max_iter=3",
    "train.log_period=1",
    "train.amp.enabled=False",
    # Random heads then find something everywhere, so that masks are evaluated, too.
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "optimizer.lr=1e-6",
    "train.tensorboard=False",
    *(
        f"dataloader.{split}.mapper.augmentations.0.{key}=64"
        for split in ("train", "test")
        for key in ("max_size", "short_edge_length")
    ),
]


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_foreign(tmp_path / "foreign")


@pytest.fixture
def _process_state() -> Iterator[None]:
    with undone_process_state():
        yield


def test_what_is_found(foreign: tuple[Path, Path, Path]) -> None:
    train, _, images = foreign
    summary = register_coco_json("foreign_json", train, images, open_files=True)
    assert list(summary.class_names) == CLASS_NAMES
    assert summary.category_ids == (0, 7, 40)
    assert (summary.num_images, summary.num_empty_images) == (8, 1)
    assert (summary.num_annotations, summary.num_crowds) == (35, 7)
    assert (summary.num_masks, summary.num_run_length_masks) == (21, 14)
    # No image but the missing one is of another size than the JSON says.
    assert summary.suspicions == {}
    assert summary.examples["image whose file is missing"] == (MISSING,)
    for record in get_dataset_dicts("foreign_json", filter_empty=False):
        assert read_image(record["file_name"]).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.usefixtures("_process_state")
def test_it_trains_and_keeps_its_classes(foreign: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, val, images = foreign
    output = tmp_path / "output"
    own = [f"data.train={train}", f"data.val={val}", f"data.images={images}"]
    results = run(output, *own, *_SMALL, config=QUICK)
    assert {"bbox", "segm"} <= set(results)
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [line["loss_mask"] for line in lines if "loss_mask" in line]
    assert len(losses) == 3 and all(map(math.isfinite, losses))
    log = (output / "log.txt").read_text()
    # What was found before there was a log is in it, too.
    assert f"1 x image whose file is missing ({MISSING})" in log
    assert "To train on: 21 objects in 7 images. 3 iterations of 2 images see" in log
    assert "A token of the branch at 64 pixels covers 32 x 32 pixels" in log

    saved = torch.load(output / "model_final.pth", weights_only=False)
    assert saved["metadata"]["class_names"] == CLASS_NAMES
    assert saved["metadata"]["category_ids"] == [
        each["id"] for each in sorted(CATEGORIES, key=lambda category: category["id"])
    ]
    # Neither the JSON nor the images are needed to use the detector.
    for file in (train, val):
        file.unlink()
    for name in [name for name in MetadataCatalog.list() if name.startswith(("train_", "val_"))]:
        MetadataCatalog.remove(name)
    predictor = Predictor(output / "config.yaml", output / "model_final.pth", device="cpu")
    assert list(predictor.class_names) == CLASS_NAMES
    assert predictor(images / "a/turned.jpg").image_size == (HEIGHT, WIDTH)
