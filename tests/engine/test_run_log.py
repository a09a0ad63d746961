"""The log of a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from piip_d2.engine.run_log import FILE_LOGGER, close_run_log, find_run_log, open_run_log


def _say(text: str, name: str = "piip_d2.engine") -> None:
    logging.getLogger(name).info(text)


def test_messages_of_all_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_run_log(tmp_path)
    for name in ("fvcore.common", "detectron2", "piip_d2.engine", FILE_LOGGER):
        _say(f"by {name}", name)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "by fvcore.common",
        "by detectron2",
        "by piip_d2.engine",
        f"by {FILE_LOGGER}",
    ]
    screen = capsys.readouterr().out
    assert "by piip_d2.engine" in screen and f"by {FILE_LOGGER}" not in screen


def test_other_processes_have_a_file_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run_log(tmp_path, 3)
    _say("hello")
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt.rank3"]
    assert capsys.readouterr().out == ""


def test_second_run_of_a_process_leaves_the_log_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        open_run_log(tmp_path / name)
        _say(f"by the {name}")
    assert "second" not in (tmp_path / "first" / "log.txt").read_text()
    assert "first" not in (tmp_path / "second" / "log.txt").read_text()
    assert capsys.readouterr().out.count("by the second") == 1


def test_file_that_was_moved_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    file.write_text("earlier\n")
    open_run_log(tmp_path)
    log = find_run_log()
    assert log and (log.path, log.start) == (file, len("earlier\n"))
    _say("before")
    file.rename(tmp_path / "moved.txt")
    _say("behind")
    assert "before" not in file.read_text() and "behind" in file.read_text()
    assert "behind" not in (tmp_path / "moved.txt").read_text()


def test_folder_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    open_run_log(folder)
    _say("before")
    folder.rename(tmp_path / "moved")
    _say("behind")
    assert "behind" in (folder / "log.txt").read_text()
    assert "before" in (tmp_path / "moved" / "log.txt").read_text()


def test_closing(tmp_path: Path) -> None:
    open_run_log(tmp_path)
    close_run_log()
    close_run_log()
    _say("too late")
    assert find_run_log() is None
    assert (tmp_path / "log.txt").read_text() == ""
