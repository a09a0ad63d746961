"""The demo from its command line: images, videos, windows and mistakes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from PIL import Image
from pycocotools.coco import COCO

import demo
from piip_d2 import _optional
from piip_d2.engine import AtomicCheckpointer
from piip_d2.visualization.video import VideoReader, VideoWriter

CONFIG = Path(__file__).parent / "visualization" / "small_config.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    model = instantiate(LazyConfig.load(str(CONFIG)).model)
    checkpointer = AtomicCheckpointer(model, str(folder))
    checkpointer.metadata = {"class_names": ["cat", "dog"]}
    checkpointer.save("small")
    return folder / "small.pth"


@pytest.fixture(autouse=True)
def _log_reaches_pytest(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Detectron2's setup_logger cuts a logger off from the root, where pytest listens.
    monkeypatch.setattr(demo, "setup_logger", lambda name: None)
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)
    caplog.set_level(logging.INFO)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images of one stem, a grey 16-bit one and a broken one."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("x.jpg", "more/x.png"):
        pixels = generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    Image.fromarray(generator.integers(0, 2**16, (64, 48), dtype=np.uint16)).save(folder / "g.png")
    (folder / "broken.jpg").write_bytes((folder / "x.jpg").read_bytes()[:300])
    return folder


def _run(checkpoint: Path, *arguments: object, threshold: float = 0.0) -> int:
    return demo.main(
        [
            *("--config-file", str(CONFIG), "--device", "cpu"),
            *("--confidence-threshold", str(threshold)),
            *map(str, arguments),
            *("--opts", f"train.init_checkpoint={checkpoint}"),
        ]
    )


def test_images_are_drawn_and_results_written(
    checkpoint: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "drawn"
    inputs = (images / "x.jpg", images, images / "more/*.png")
    assert _run(checkpoint, "--input", *inputs, "--output", output) == 0
    assert "broken.jpg is skipped: the image cannot be read (" in caplog.text
    assert "1 of 4 images skipped" in caplog.text

    sizes = {"x.png": (56, 40), "g.png": (48, 64), "x-2.png": (56, 40)}
    for name, size in sizes.items():
        with Image.open(output / name) as picture:
            assert picture.format == "PNG" and picture.size == size
    written = {path.name for path in output.iterdir()}
    assert written == {*sizes, "predictions.json", "images.json"}

    truth = COCO(str(output / "images.json"))
    results = truth.loadRes(str(output / "predictions.json"))
    assert [image["file_name"] for image in truth.dataset["images"]] == [
        str(images / name) for name in ("x.jpg", "g.png", "more/x.png")
    ]
    assert [category["name"] for category in truth.dataset["categories"]] == ["cat", "dog"]
    for image in truth.dataset["images"]:
        entries = results.loadAnns(results.getAnnIds(imgIds=[image["id"]]))
        assert 0 < len(entries) <= 6
        for entry in entries:
            assert entry["file_name"] == image["file_name"]
            assert results.annToMask(entry).shape == (image["height"], image["width"])


def test_threshold_holds_for_drawing_and_results(
    checkpoint: Path, images: Path, tmp_path: Path
) -> None:
    arguments = ("--input", images / "more", "--output", tmp_path / "drawn")
    assert _run(checkpoint, *arguments, threshold=1.0) == 0
    assert json.loads((tmp_path / "drawn/predictions.json").read_text()) == []
    original = np.asarray(Image.open(images / "more/x.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "drawn/x.png")), original)


def test_checkpoint_dtype_and_published_config_by_option(
    checkpoint: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["--input", str(images / "x.jpg"), "--output", str(tmp_path), "--device", "cpu"]
    weights = ["--checkpoint", str(checkpoint), "--dtype", "bf16"]
    assert demo.main(["--config-file", str(CONFIG), *weights, *arguments]) == 0
    truth = COCO(str(tmp_path / "images.json"))
    assert [category["name"] for category in truth.dataset["categories"]] == ["cat", "dog"]
    assert demo.main(["--config-file", "quick/mask_rcnn_scene", *weights, *arguments]) == 1
    assert "did you mean quick/mask_rcnn_scenes" in caplog.text


def test_threshold_below_that_of_the_model(checkpoint: Path, images: Path, tmp_path: Path) -> None:
    arguments = ("--input", images / "more", "--output", tmp_path / "drawn")
    strict = "model.roi_heads.box_predictor.test_score_thresh=0.99"
    opts = ("--opts", strict, f"train.init_checkpoint={checkpoint}")
    command = ["--config-file", CONFIG, "--device", "cpu", *arguments]
    assert demo.main([*map(str, command), "--confidence-threshold", "0.01", *opts]) == 0
    assert json.loads((tmp_path / "drawn/predictions.json").read_text())


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "nan", "half"])
def test_threshold_is_a_score(
    threshold: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        _run(checkpoint, "--input", "x.jpg", f"--confidence-threshold={threshold}")
    message = f"--confidence-threshold: must be a number from 0 to 1, got '{threshold}'"
    assert message in capsys.readouterr().err


def test_image_that_the_model_cannot_take_is_skipped(
    checkpoint: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (5000, 1)).save(images / "more" / "line.png")
    arguments = ("--input", images / "more", "--output", tmp_path / "drawn")
    assert _run(checkpoint, *arguments) == 0
    assert "line.png is skipped: an image of 5000 x 1 pixels" in caplog.text
    assert "1 of 2 images skipped" in caplog.text


def test_error_of_the_model_is_no_matter_of_the_image(
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(predictor: object, image: object) -> None:
        raise ValueError("a mistake in the model")

    monkeypatch.setattr(demo.Predictor, "__call__", fail)
    arguments = ("--input", images / "more", "--output", tmp_path / "drawn")
    assert _run(checkpoint, *arguments) == 1
    assert "a mistake in the model" in caplog.text
    assert "is skipped" not in caplog.text


def test_output_file_for_a_single_image(
    checkpoint: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "new" / "one.jpg"
    assert _run(checkpoint, "--input", images / "x.jpg", "--output", output) == 0
    assert "skipped" not in caplog.text
    with Image.open(output) as picture:
        assert picture.format == "JPEG" and picture.size == (56, 40)
    assert json.loads((output.parent / "one_predictions.json").read_text())
    assert (output.parent / "one_images.json").is_file()


def test_nothing_usable(
    checkpoint: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ("--input", images / "broken.jpg", "--output", tmp_path / "drawn")
    assert _run(checkpoint, *arguments) == 1
    assert "nothing could be read" in caplog.text


def test_interruption_keeps_what_was_found(
    checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []

    def save_and_stop(picture: np.ndarray, path: Path) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(path)

    monkeypatch.setattr(demo, "save_picture", save_and_stop)
    arguments = ("--input", images, "--output", tmp_path / "drawn")
    assert _run(checkpoint, *arguments) == 130
    entries = json.loads((tmp_path / "drawn/predictions.json").read_text())
    assert {Path(entry["file_name"]).name for entry in entries} == {"g.png", "x.jpg"}


@pytest.mark.skipif(not _optional.available("cv2"), reason="OpenCV is missing")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "nothing.jpg", "--output", "o"], "'nothing.jpg' means no image"),
        (["--input", "{images}/*.tif", "--output", "o"], "*.tif' means no image"),
        (["--input", "{images}/*.*", "--output", "o.png"], "one file for 3 drawings"),
        (["--input", "{images}/more", "--output", "{images}/more"], "overwrite an input image"),
        (["--input", "{images}", "--output", "{taken}"], "--output must be a folder, got"),
        (["--input", "{images}/x.jpg", "--output", "{taken}/x.png"], "--output must be a folder"),
        (["--video-input", "nothing.mp4", "--output", "o"], "no video file nothing.mp4"),
        (["--video-input", "{taken}", "--output", "o"], "OpenCV cannot open taken.txt"),
        (["--webcam", "--output", "{taken}"], "--output must be a folder, got"),
        (["--webcam", "--output", "{taken}/drawn.avi"], "--output must be a folder, got"),
        (["--input", "{images}", "--output", "o", "--device", "gpu"], "--device must be"),
        (["--input", "{images}", "--output", "o"], "no.py does not"),
    ],
)
def test_mistakes_are_one_sentence_before_a_model_is_built(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FakeCamera(VideoReader):
        def __init__(self, source: str | int) -> None:
            super().__init__(str(camera) if source == 0 else source)

    camera, taken = tmp_path / "camera.avi", tmp_path / "taken.txt"
    taken.write_text("no folder and no video")
    with VideoWriter(camera, fps=8.0) as writer:
        writer.write(np.zeros((48, 64, 3), dtype=np.uint8))
    monkeypatch.setattr(demo, "VideoReader", FakeCamera)
    given = [argument.format(images=images, taken=taken) for argument in arguments]
    # This comes last: to read the config and to build its model takes longest.
    assert _run(checkpoint, *given, "--config-file", "no.py") == 1
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and message in errors[0].getMessage() and not errors[0].exc_info
    assert not Path("o").exists()


def test_no_output_and_no_window(
    checkpoint: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("piip_d2.visualization.video._why_no_window", lambda cv2: "none here")
    assert _run(checkpoint, "--input", images) == 1
    assert "cannot open a window: none here; name a folder" in caplog.text


def test_window_closes_on_demand(
    checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, ...]] = []

    class FakeWindow:
        def __init__(self, title: str) -> None: ...

        def show(self, frame: np.ndarray, wait_ms: int) -> bool:
            shown.append(frame.shape)
            return len(shown) < 2

    monkeypatch.setattr(demo, "Window", FakeWindow)
    assert _run(checkpoint, "--input", images, images / "more") == 0
    assert shown == [(64, 48, 3), (40, 56, 3)]


@pytest.mark.skipif(not _optional.available("cv2"), reason="OpenCV is missing")
@pytest.mark.parametrize("output", ["drawn", "drawn.avi"])
def test_video_in_and_out(output: str, checkpoint: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    with VideoWriter(tmp_path / "clip.avi", fps=8.0) as writer:
        for _ in range(3):
            writer.write(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    arguments = ("--video-input", tmp_path / "clip.avi", "--output", tmp_path / output)
    assert _run(checkpoint, *arguments) == 0

    is_file = output.endswith(".avi")
    drawn = tmp_path / output if is_file else tmp_path / "drawn" / "clip.mp4"
    with VideoReader(drawn) as reader:
        assert reader.fps == pytest.approx(8.0)
        assert [frame.shape for frame in reader] == [(48, 64, 3)] * 3
    prefix = "drawn_" if is_file else ""
    entries = json.loads((drawn.parent / f"{prefix}predictions.json").read_text())
    assert {entry["image_id"] for entry in entries} == {1, 2, 3}
    assert {entry["file_name"] for entry in entries} == {f"clip.avi#{n}" for n in (1, 2, 3)}
