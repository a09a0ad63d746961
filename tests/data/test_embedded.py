from __future__ import annotations

import errno
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from piip_d2.data import embedded
from piip_d2.data.embedded import (
    EMBEDDED_DATASETS,
    EmbeddedDataset,
    datasets_root,
    embedded_names,
    prepare_dataset,
)
from piip_d2.data.scenes import SceneOptions


def _build(folder: Path, search: Path) -> None:
    # Long enough for a second process to come to the same point.
    time.sleep(0.3)
    with open(folder.parent / "builds.txt", "a") as file:
        file.write(f"{os.getpid()}\n")
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / "annotations" / f"{split}.json").write_text("{}")


FAKE = EmbeddedDataset("fake", "fake-set", 1, _build)


def test_two_processes_at_once_build_once(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepare_dataset, args=(FAKE, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "builds.txt").read_text().split()) == 1
    assert FAKE.json_file(tmp_path, "val").is_file()


def test_what_is_there_is_not_built_again(tmp_path: Path):
    folder = prepare_dataset(FAKE, tmp_path)
    assert prepare_dataset(FAKE, tmp_path) == folder == tmp_path / "fake-set"
    assert len((tmp_path / "builds.txt").read_text().split()) == 1


def test_a_build_that_fails_leaves_nothing(tmp_path: Path):
    def fail(folder: Path, search: Path) -> None:
        (folder / "half.png").write_text("half")
        raise KeyError("broken")

    (tmp_path / ".fake-set.partial-dead").mkdir()
    with pytest.raises(KeyError):
        prepare_dataset(replace(FAKE, build=fail), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    prepare_dataset(FAKE, tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_no_room_is_a_sentence(tmp_path: Path, number: int):
    def fill_disk(folder: Path, search: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(
        OSError, match=r"'fake-set' needs a folder that can be written, with about 1 MB.*DETECTRON2"
    ) as caught:
        prepare_dataset(replace(FAKE, build=fill_disk), tmp_path)
    assert caught.value.errno == number


def test_other_system_errors_are_not_renamed(tmp_path: Path):
    def fail(folder: Path, search: Path) -> None:
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError, match="no network"):
        prepare_dataset(replace(FAKE, build=fail), tmp_path)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path):
    (tmp_path / "fake-set").mkdir()
    (tmp_path / "fake-set" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="Move the folder away"):
        prepare_dataset(FAKE, tmp_path)
    assert (tmp_path / "fake-set" / "mine.txt").read_text() == "mine"


def test_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert datasets_root() == tmp_path
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.chdir(tmp_path)
    assert datasets_root() == tmp_path / "datasets"


def test_names():
    assert set(embedded_names()) == {
        f"{prefix}_{split}"
        for prefix in ("trees", "nuclei", "scenes_v1")
        for split in ("train", "val")
    }


def test_scenes_of_another_digest_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(embedded, "SCENES_V1", SceneOptions(image_size=32, object_size=(8, 16)))
    monkeypatch.setattr(embedded, "SCENES_V1_SPLITS", {"train": (2, 0), "val": (1, 1)})
    folder = prepare_dataset(EMBEDDED_DATASETS["scenes"], tmp_path)
    assert "scenes-v1/val was rendered with the digest" in caplog.text
    assert len(list((folder / "train").iterdir())) == 2
    assert "CC0" in (folder / "SOURCES.txt").read_text()
