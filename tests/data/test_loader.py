from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.utils import comm

from piip_d2.data.image_reading import UnusableImageError
from piip_d2.data.loader import (
    DataLoadingError,
    TrainLoader,
    build_test_loader,
    build_train_loader,
)
from piip_d2.data.mapper import PIIPDatasetMapper
from piip_d2.data.registration import get_dataset_dicts, register_coco_json

from .conftest import Coco, Writer

Samples = list[list[dict[str, Any]]]


@pytest.fixture
def name(coco: Coco, write_coco: Writer) -> str:
    """A registered data set of six images."""
    register_coco_json("mine", *write_coco(coco))
    return "mine"


def _augmenting_mapper() -> PIIPDatasetMapper:
    return PIIPDatasetMapper(
        True,
        augmentations=[
            T.ResizeShortestEdge([20, 24, 28, 32], 60, "choice"),
            T.RandomFlip(),
            T.RandomBrightness(0.5, 1.5),
        ],
    )


def _take(loader: TrainLoader, count: int) -> Samples:
    return list(itertools.islice(loader, count))


def _assert_equal(first: Samples, second: Samples) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert [sample["image_id"] for sample in one] == [sample["image_id"] for sample in other]
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left["image"], right["image"])
            assert torch.equal(
                left["instances"].gt_boxes.tensor, right["instances"].gt_boxes.tensor
            )


def _numbers(entry: dict[str, Any]) -> dict[str, Any]:
    """A mapper that returns a number of each generator."""
    numbers = random.random(), float(np.random.rand()), float(torch.rand(()))
    return {"image_id": entry["image_id"], "numbers": numbers}


def test_samples_do_not_depend_on_workers_or_on_where_a_run_begins(name: str):
    build = {"mapper": _augmenting_mapper(), "total_batch_size": 3, "seed": 4}
    alone = _take(build_train_loader(name, **build), 7)
    for num_workers, prefetch_factor in ((1, 1), (2, 4)):
        ahead = {"num_workers": num_workers, "prefetch_factor": prefetch_factor}
        _assert_equal(alone, _take(build_train_loader(name, **ahead, **build), 7))
    later = build_train_loader(name, num_workers=2, start_iteration=4, **build)
    _assert_equal(alone[4:], _take(later, 3))
    other = _take(build_train_loader(name, **{**build, "seed": 5}), 7)
    assert [s["image_id"] for b in other for s in b] != [s["image_id"] for b in alone for s in b]


def test_every_sample_has_random_numbers_of_its_own(name: str):
    batches = _take(build_train_loader(name, mapper=_numbers, total_batch_size=3), 8)
    numbers = [sample["numbers"] for batch in batches for sample in batch]
    assert len(set(numbers)) == 24


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_generators_of_the_process_are_left_alone(name: str, num_workers: int):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    loader = build_train_loader(name, mapper=_numbers, total_batch_size=2, num_workers=num_workers)
    _take(loader, 3)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_batches_hold_one_orientation_and_every_image(name: str):
    seen: Counter[int] = Counter()
    loader = build_train_loader(name, mapper=_augmenting_mapper(), total_batch_size=2)
    for batch in _take(loader, 6):
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1
        seen.update(sample["image_id"] for sample in batch)
    # 6 batches of 2 are exactly two passes over 3 wide and 3 high images.
    assert seen == dict.fromkeys(range(6), 2)


def test_grouping_can_be_left_out(name: str):
    loader = build_train_loader(
        name, mapper=_augmenting_mapper(), total_batch_size=2, aspect_ratio_grouping=False
    )
    mixed = [{s["width"] > s["height"] for s in batch} for batch in _take(loader, 12)]
    assert any(len(kinds) == 2 for kinds in mixed)


def test_ranks_share_a_batch(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    images = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_train_loader(name, mapper=_augmenting_mapper(), total_batch_size=2)
        images += [sample["image_id"] for batch in _take(loader, 3) for sample in batch]
    assert sorted(images) == list(range(6))
    with pytest.raises(ValueError, match=r"total_batch_size \(3\) must be a positive multiple"):
        build_train_loader(name, mapper=_augmenting_mapper(), total_batch_size=3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_images_are_replaced_and_counted(
    name: str, tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "images" / "0.png").write_bytes(b"damaged")
    build = {"mapper": _augmenting_mapper(), "total_batch_size": 2}
    loader = build_train_loader(name, num_workers=num_workers, **build)
    batches = _take(loader, 12)
    assert all(len(batch) == 2 for batch in batches)
    assert 0 not in {sample["image_id"] for batch in batches for sample in batch}
    ((sentence, count),) = loader.unusable.items()
    assert "0.png: the image cannot be read" in sentence
    assert count >= 3
    # Warned of once, counted every time.
    assert caplog.text.count("Left out (image 1 that cannot be used)") == 1
    loader.report_unusable()
    assert "In all, 1 images could not be used; others stood in for them" in caplog.text
    _assert_equal(batches[5:], _take(build_train_loader(name, start_iteration=5, **build), 7))


def test_a_substitute_may_be_broken_too(name: str, tmp_path: Path):
    for number in (0, 2, 1, 3):
        (tmp_path / "images" / f"{number}.png").unlink()
    loader = build_train_loader(name, mapper=_augmenting_mapper(), total_batch_size=2)
    images = {sample["image_id"] for batch in _take(loader, 6) for sample in batch}
    assert images == {4, 5}
    assert len(loader.unusable) == 4


def test_images_whose_objects_have_no_masks_are_replaced(name: str):
    mapper = PIIPDatasetMapper(True, augmentations=[], use_instance_mask=True)
    loader = build_train_loader(name, mapper=mapper, total_batch_size=2)
    images = {sample["image_id"] for batch in _take(loader, 6) for sample in batch}
    assert images == {0, 1, 2}
    assert len(loader.unusable) == 3


def test_training_on_masks_where_there_are_none(coco: Coco, write_coco: Writer):
    for entry in coco["annotations"]:
        entry.pop("segmentation", None)
    # A crowd is no object.
    coco["annotations"][0]["iscrowd"] = 1
    register_coco_json("boxes", *write_coco(coco))
    mapper = PIIPDatasetMapper(True, augmentations=[], use_instance_mask=True)
    with pytest.raises(ValueError, match="training on masks .* none of 11 has"):
        build_train_loader("boxes", mapper=mapper, total_batch_size=2)


def test_only_broken_images(name: str, tmp_path: Path):
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").unlink()
    loader = build_train_loader(name, mapper=_augmenting_mapper(), total_batch_size=2)
    with pytest.raises(DataLoadingError, match="20 drawn one after the other could not be used"):
        _take(loader, 1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_other_mistakes_name_the_image(name: str, num_workers: int):
    loader = build_train_loader(name, mapper=_fail, total_batch_size=1, num_workers=num_workers)
    with pytest.raises(DataLoadingError, match=r"preparing .*\.png failed: ZeroDivisionError"):
        _take(loader, 1)


def _fail(entry: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError(entry["file_name"])


def test_a_worker_that_dies(name: str):
    loader = build_train_loader(name, mapper=_die, total_batch_size=1, num_workers=1)
    with pytest.raises(DataLoadingError, match=r"one of the 1 data workers ended .*num_workers"):
        _take(loader, 1)


def _die(entry: dict[str, Any]) -> dict[str, Any]:
    os._exit(1)


def test_workers_outlive_signals_that_the_run_is_to_act_on(name: str):
    loader = build_train_loader(name, mapper=_numbers, total_batch_size=1, num_workers=1)
    batches = iter(loader)
    next(batches)
    workers = multiprocessing.active_children()
    for worker in workers:
        # From another process than its parent, as job schedulers do it.
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        subprocess.run(["kill", "-INT", str(worker.pid)], check=True)
    assert workers and len(list(itertools.islice(batches, 8))) == 8
    for worker in workers:
        worker.terminate()
        worker.join(timeout=10)
    assert [worker.exitcode for worker in workers] == [0]


def test_built_by_lazy_config(name: str):
    config = L(build_train_loader)(
        dataset=L(get_dataset_dicts)(names=name),
        mapper=L(PIIPDatasetMapper)(is_train=True, augmentations=[L(T.RandomFlip)()]),
        total_batch_size=2,
        num_workers=0,
        seed=0,
    )
    config.start_iteration = 3
    assert len(_take(instantiate(config), 1)[0]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_batch_size": 0}, r"total_batch_size \(0\) must be a positive multiple"),
        ({"start_iteration": -1}, "start_iteration must not be negative, got -1"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"prefetch_factor": 0}, "prefetch_factor must be at least 1, got 0"),
    ],
)
def test_arguments_are_checked(name: str, arguments: dict[str, int], message: str):
    build: dict[str, Any] = {"mapper": _numbers, "total_batch_size": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        build_train_loader(name, **build)


def test_no_images():
    with pytest.raises(ValueError, match="at least one image, got none"):
        build_train_loader([], mapper=_numbers, total_batch_size=1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_every_image_once_in_order(name: str, num_workers: int):
    mapper = PIIPDatasetMapper(False, augmentations=[])
    loader = build_test_loader([name], mapper=mapper, batch_size=4, num_workers=num_workers)
    assert len(loader) == 2
    assert [[s["image_id"] for s in batch] for batch in loader] == [[0, 1, 2, 3], [4, 5]]


def test_evaluation_leaves_out_what_cannot_be_used(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "images" / "2.png").unlink()
    loader = build_test_loader(name, mapper=PIIPDatasetMapper(False, augmentations=[]))
    assert [sample["image_id"] for (sample,) in loader] == [0, 1, 3, 4, 5]
    assert "2.png: there is no such file" in caplog.text
    assert "1 images could not be used; the objects in them count as missed" in caplog.text
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        build_test_loader(name, mapper=_numbers, batch_size=0)


def test_many_broken_images_give_few_warnings(caplog: pytest.LogCaptureFixture):
    entries = [{"file_name": f"{number}.png", "image_id": number} for number in range(150)]
    loader = build_test_loader(entries, mapper=_refuse)
    assert list(loader) == []
    assert len(loader.unusable) == 150
    warned = [record for record in caplog.records if "cannot be used" in record.message]
    # The first five, the tenth and the hundredth; at the end their number.
    assert len(warned) == 7
    assert "In all, 150 images could not be used" in caplog.text


def _refuse(entry: dict[str, Any]) -> dict[str, Any]:
    raise UnusableImageError(f"{entry['file_name']}: refused")
