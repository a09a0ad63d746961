from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
import torch
from detectron2.data import transforms as T

from piip_d2.data.loader import TrainLoader, build_test_loader, build_train_loader
from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.registration import register_coco_json

from .conftest import Coco, Writer


@pytest.fixture
def mine(coco: Coco, write_coco: Writer) -> str:
    """A registered data set of six images."""
    register_coco_json("mine", *write_coco(coco))
    return "mine"


def test_workers_of_an_evaluation_stay_for_the_next(mine: str):
    loader = build_test_loader(mine, mapper=_with_process, num_workers=2)
    first, second = ([sample["process"] for (sample,) in loader] for _ in range(2))
    assert len(set(first)) == 2
    assert first == second
    assert os.getpid() not in first


def _with_process(entry: dict[str, Any]) -> dict[str, Any]:
    return {"process": os.getpid()}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_are_where_they_are_wanted(mine: str, num_workers: int, device: torch.device):
    mapper = PIIPDatasetMapper(True, augmentations=[T.RandomBrightness(0.5, 1.5)])
    build = {"mapper": mapper, "total_batch_size": 2, "num_workers": num_workers}
    here = _two(build_train_loader(mine, **build))
    # The device without numbers stands for a GPU where there is none.
    wanted = "meta" if device.type == "cpu" else "cuda"
    there = _two(build_train_loader(mine, device=wanted, **build))
    for one, other in zip(sum(here, []), sum(there, []), strict=True):
        assert one["image"].device.type == "cpu"
        assert other["image"].device.type == wanted
        assert other["instances"].gt_boxes.device.type == "cpu"
        if wanted == "cuda":
            assert torch.equal(other["image"].cpu(), one["image"])
    (loaded,) = next(iter(build_test_loader(mine, mapper=mapper, device=wanted)))
    assert loaded["image"].device.type == wanted
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    (found,) = next(iter(build_test_loader(mine, mapper=mapper, device="auto")))
    assert found["image"].device.type == expected


def _two(loader: TrainLoader) -> list[list[dict[str, Any]]]:
    return list(itertools.islice(loader, 2))
