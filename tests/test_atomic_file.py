"""Files that are complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from piip_d2._atomic_file import remove_unfinished, write_atomically, write_text_atomically


def test_replaces_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomically(path, "old")
    write_text_atomically(path, "né\n")
    assert path.read_text(encoding="utf-8") == "né\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failure_keeps_the_old_content(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_reader_never_sees_a_half(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_text())

    write_atomically(path, write)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".model_final.pth.123.part"
    leftover.write_text("half")
    (tmp_path / "model_final.pth").write_text("whole")
    assert remove_unfinished(tmp_path) == [leftover]
    assert [path.name for path in tmp_path.iterdir()] == ["model_final.pth"]
