"""Frames go in and out; what cannot be opened is said in a sentence."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from piip_d2 import _optional
from piip_d2.visualization.video import (
    NoWindowError,
    VideoReader,
    VideoWriter,
    Window,
    plan_video,
)

pytestmark = pytest.mark.skipif(not _optional.available("cv2"), reason="OpenCV is missing")


def _write_clip(path: Path, frames: list[np.ndarray], fps: float = 10.0) -> None:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
        assert writer.num_frames == len(frames)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_frames_come_back_in_their_colours(suffix: str, tmp_path: Path) -> None:
    colours = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]
    frames = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    _write_clip(tmp_path / f"clip{suffix}", frames)
    with VideoReader(tmp_path / f"clip{suffix}") as reader:
        assert reader.name == f"clip{suffix}"
        assert reader.fps == pytest.approx(10.0)
        read = list(reader)
    assert len(read) == 3
    for frame, colour in zip(read, colours, strict=True):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame.mean(axis=(0, 1)) - colour).max() < 12


def test_odd_sizes_are_cut_to_even_ones(tmp_path: Path) -> None:
    _write_clip(tmp_path / "odd.mp4", [np.full((33, 51, 3), 90, np.uint8)] * 2)
    with VideoReader(tmp_path / "odd.mp4") as reader:
        assert [frame.shape for frame in reader] == [(32, 50, 3)] * 2


def test_video_cut_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    _write_clip(tmp_path / "whole.avi", [noise] * 20)
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 6 // 10])
    with VideoReader(tmp_path / "cut.avi") as reader:
        num_read = len(list(reader))
    assert 8 <= num_read <= 13
    assert f"cut.avi ends after {num_read} of 20 frames" in caplog.text


def test_inputs_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no video file nothing.mp4"):
        VideoReader("nothing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="OpenCV cannot open text.mp4: the file may be damaged"):
        VideoReader(tmp_path / "text.mp4")
    with pytest.raises(ValueError, match="cannot open camera99: check that a camera"):
        VideoReader(99)


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of .mp4, .avi, .mkv, got clip.wmv"):
        VideoWriter(tmp_path / "clip.wmv", 10.0)
    writer = VideoWriter(tmp_path / "missing" / "clip.mp4", 10.0)
    with pytest.raises(OSError, match="the folder may not be writable"):
        writer.write(np.zeros((4, 4, 3), np.uint8))


def test_name_of_the_drawn_video(tmp_path: Path) -> None:
    source = tmp_path / "clip.avi"
    source.touch()
    assert plan_video(source.name, tmp_path / "o.mkv", source) == tmp_path / "o.mkv"
    assert plan_video(source.name, tmp_path, source) == tmp_path / "clip.mp4"
    assert plan_video("camera0", tmp_path) == tmp_path / "camera0.mp4"
    with pytest.raises(ValueError, match="clip.avi would overwrite the input"):
        plan_video(source.name, source, source)


def _fake_opencv(gui: str, keys: list[int]) -> Any:
    pressed = iter(keys)
    shown: list[np.ndarray] = []
    return SimpleNamespace(
        getBuildInformation=lambda: f"General\n  GUI:                 {gui}\n  Other: NONE",
        WINDOW_NORMAL=0,
        namedWindow=lambda title, flags: None,
        imshow=lambda title, picture: shown.append(picture),
        waitKey=lambda wait_ms: next(pressed),
        shown=shown,
    )


def test_window_shows_bgr_until_q(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake_opencv("QT5", keys=[-1, ord("q")])
    monkeypatch.setattr(_optional, "require", lambda name, purpose: fake)
    monkeypatch.setenv("DISPLAY", ":0")
    window = Window("title")
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[:, :, 0] = 255
    assert window.show(frame)
    assert not window.show(frame)
    assert fake.shown[0][0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("gui", "message"), [("NONE", "headless flavour"), ("GTK3", "there is no display")]
)
def test_no_window(gui: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optional, "require", lambda name, purpose: _fake_opencv(gui, []))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(NoWindowError, match=f"{message}.*--output instead"):
        Window("title")


def test_message_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, purpose: str) -> None:
        raise ImportError(f"{name} is needed for {purpose}")

    monkeypatch.setattr(_optional, "require", refuse)
    with pytest.raises(ImportError, match="cv2 is needed for reading video"):
        VideoReader("clip.mp4")
