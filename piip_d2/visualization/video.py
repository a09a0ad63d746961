"""Frames of a video or a webcam in, frames of a drawn video out, through OpenCV."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from piip_d2 import _optional

from .image_files import names_file

_logger = logging.getLogger(__name__)

_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
VIDEO_SUFFIXES = frozenset(_CODECS)


class NoWindowError(RuntimeError):
    """A window is asked for where there cannot be one."""


class VideoReader:
    """The frames of a video file or a camera, RGB in uint8.

    Iterating is possible once; a context manager closes the source.

    Args:
        source: Path of a video file, or the number of a camera.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If OpenCV cannot open the source.
    """

    def __init__(self, source: str | Path | int) -> None:
        self._cv2 = _optional.require("cv2", "reading video")
        if isinstance(source, int):
            self.name = f"camera{source}"
            self._capture = self._cv2.VideoCapture(source)
            way_out = "check that a camera is connected and that no other program uses it"
        else:
            if not Path(source).is_file():
                raise FileNotFoundError(f"there is no video file {source}")
            self.name = Path(source).name
            self._capture = self._cv2.VideoCapture(str(source))
            way_out = (
                "the file may be damaged or its codec unknown to this OpenCV; converting it to "
                "an .mp4 with H.264 helps"
            )
        if not self._capture.isOpened():
            raise ValueError(f"OpenCV cannot open {self.name}: {way_out}")
        # Cameras and some containers report 0; 25 frames a second is then assumed for the output.
        self.fps: float = self._capture.get(self._cv2.CAP_PROP_FPS) or 25.0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        num_read = 0
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                break
            num_read += 1
            yield frame[:, :, ::-1]
        # What containers say is an estimate that can be off by a frame; cameras say nothing.
        num_expected = int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT))
        if num_read < num_expected - 1:
            _logger.warning(
                "%s ends after %d of %d frames: it is damaged or cut short",
                self.name,
                num_read,
                num_expected,
            )


class VideoWriter:
    """Writes RGB frames of one size to a video file.

    The file is opened with the first frame. Frames with an odd side lose its last row or column,
    since the common codecs need even sizes.

    Args:
        path: File to write; ``.mp4``, ``.avi`` or ``.mkv``.
        fps: Frames a second.

    Raises:
        ValueError: If the suffix is not one of these.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self._cv2 = _optional.require("cv2", "writing video")
        self.path = Path(path)
        if self.path.suffix.lower() not in _CODECS:
            raise ValueError(
                f"a video is written as one of {', '.join(_CODECS)}, got {self.path.name}"
            )
        self._fps = fps
        self._writer: Any = None
        self.num_frames = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame; an odd last row or column is cut off.

        Args:
            frame: Picture of shape ``(H, W, 3)``, RGB in uint8.

        Raises:
            OSError: If OpenCV cannot open the file for writing.
        """
        height, width = (side // 2 * 2 for side in frame.shape[:2])
        if self._writer is None:
            codec = self._cv2.VideoWriter_fourcc(*_CODECS[self.path.suffix.lower()])
            self._writer = self._cv2.VideoWriter(str(self.path), codec, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(
                    f"OpenCV cannot write {self.path}: the folder may not be writable or this "
                    "OpenCV may lack the codec; a path that ends in .avi needs none"
                )
        self._writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
        self.num_frames += 1


class Window:
    """A window on the screen that shows RGB frames.

    Args:
        title: What stands in the window's title bar.

    Raises:
        NoWindowError: If this OpenCV has no windows, or if there is no screen.
    """

    def __init__(self, title: str) -> None:
        self._cv2 = _optional.require("cv2", "showing pictures in a window")
        reason = _why_no_window(self._cv2)
        if reason:
            raise NoWindowError(
                f"cannot open a window: {reason}; name a folder or file with --output instead"
            )
        self._title = title
        self._cv2.namedWindow(title, self._cv2.WINDOW_NORMAL)

    def show(self, frame: np.ndarray, wait_ms: int = 0) -> bool:
        """Shows a frame.

        Args:
            frame: Picture of shape ``(H, W, 3)``, RGB in uint8.
            wait_ms: How long to wait for a key; 0 waits until one is pressed.

        Returns:
            Whether to go on: False after Escape or "q".
        """
        self._cv2.imshow(self._title, np.ascontiguousarray(frame[:, :, ::-1]))
        return self._cv2.waitKey(wait_ms) & 0xFF not in (27, ord("q"))


def plan_video(name: str, output: Path, source: Path | None = None) -> Path:
    """Names the file for a drawn video.

    Args:
        name: Name of the video or camera that is drawn into.
        output: The file itself, or a folder, where it gets that name with ``.mp4``.
        source: The file that is read, if it is one.

    Returns:
        The file to write.

    Raises:
        ValueError: If the drawn video would overwrite it.
    """
    path = output if names_file(output, VIDEO_SUFFIXES) else output / f"{Path(name).stem}.mp4"
    if source and path.resolve() == source.resolve():
        raise ValueError(f"the drawn video {path} would overwrite the input; name another folder")
    return path


def _why_no_window(cv2: ModuleType) -> str:
    if any(
        line.split(":")[0].strip() == "GUI" and line.split(":")[-1].strip() == "NONE"
        for line in cv2.getBuildInformation().splitlines()
    ):
        return "the installed OpenCV is the headless flavour (opencv-python has windows)"
    # Qt ends the whole process when it finds no display, so this is asked beforehand.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return ""
