"""Where programs may write, known before they begin."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from piip_d2.engine.output_paths import check_output_file, check_output_folder


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file.txt").write_text("")


@pytest.mark.parametrize("path", ["new.txt", "file.txt", "folder/new.txt", "./folder/../new.txt"])
def test_files_that_can_be_written(path: str) -> None:
    check_output_file(Path(path))
    check_output_file(Path(path).resolve())
    assert not Path("new.txt").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "--output must be a file, got the folder folder"),
        (".", "--output must be a file, got the folder"),
        ("missing/new.txt", "in a folder that there is, got missing/new.txt; make it first"),
        ("file.txt/new.txt", "in a folder that there is, got file.txt/new.txt"),
    ],
)
def test_files_that_cannot(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_output_file(Path(path))


@pytest.mark.parametrize("path", [".", "folder", "folder/new", "new/of/these"])
def test_folders_that_can_be_made(path: str) -> None:
    check_output_folder(Path(path))
    check_output_folder(Path(path).resolve())
    assert not Path("new").exists()


@pytest.mark.parametrize("path", ["file.txt", "file.txt/new", "file.txt/new/one"])
def test_folders_that_cannot(path: str) -> None:
    with pytest.raises(ValueError, match=f"must be a folder, got {path}: file.txt is a file"):
        check_output_folder(Path(path))


def test_what_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    protected = {"folder", "file.txt"}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in protected)
    check_output_file(Path("new.txt"))
    for path in ("file.txt", "folder/new.txt"):
        with pytest.raises(ValueError, match=f"config must be a file that can be written.*{path}"):
            check_output_file(Path(path), "config")
    check_output_folder(Path("new"))
    for path in ("folder", "folder/new"):
        with pytest.raises(ValueError, match=f"--into must be a folder that can be .* got {path}"):
            check_output_folder(Path(path), "--into")


def test_folder_that_may_not_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    # Root, as whom tests may run, may search all.
    find, allows = os.stat, os.access

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if "folder" in Path(path).parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return find(path, **options)

    def allow(path: Path, mode: int) -> bool:
        return allows(path, mode) and not (Path(path).name == "folder" and mode & os.X_OK)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "access", allow)
    for path in ("folder", "folder/new", "folder/new/one"):
        with pytest.raises(ValueError, match=f"folder that can be written to, got {path}$"):
            check_output_folder(Path(path))
    with pytest.raises(ValueError, match="file that can be written, got folder/new.txt"):
        check_output_file(Path("folder/new.txt"))
    with pytest.raises(ValueError, match="in a folder that there is, got folder/new/one.txt"):
        check_output_file(Path("folder/new/one.txt"))


def test_folder_of_the_program_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ValueError, match="must lie in a folder that can be reached, got output"):
        check_output_folder(Path("output"))
    check_output_folder(tmp_path / "new")
