"""tools/visualize_piip.py: what it writes for detectors of every kind, and what it refuses."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from piip_d2.data import register_coco_json
from piip_d2.predictor import Predictor
from piip_d2.visualization.figures import Picture
from piip_d2.visualization.inside import Subject, attention_picture, observe, with_fewer_colors
from tests.conftest import TinyCoco

ROOT = Path(__file__).resolve().parents[2]
QUICK = {name: ROOT / f"configs/quick/{name}_scenes.py" for name in ("mask_rcnn", "dino")}


# The weights that some configs begin with are those of a part alone.
RANDOM = ["train.init_checkpoint="]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = ROOT / "tools" / "visualize_piip.py"
    spec = importlib.util.spec_from_file_location("visualize_piip", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "<photo>.png"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module", params=QUICK)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return Predictor(str(QUICK[request.param]), device="cpu", overrides=RANDOM)


@pytest.fixture(scope="module")
def subject(predictor: Predictor, photo: Path) -> Subject:
    return observe(predictor, str(photo), about="noise")


def test_a_detector_sees_the_padded_image(subject: Subject, predictor: Predictor) -> None:
    inside = subject.record.inside
    # 50 x 90 pixels at the longest side of 256, padded to multiples of 64.
    assert inside.content_size == (142, 256)
    assert inside.images.shape == (3, 192, 256)
    assert inside.pixel_mean is not None and len(inside.pixel_mean) == 3
    image = torch.from_numpy(subject.record.image).permute(2, 0, 1)
    back = inside.images[:, :142] * torch.tensor(inside.pixel_std)[:, None, None]
    back += torch.tensor(inside.pixel_mean)[:, None, None]
    shrunk = torch.nn.functional.interpolate(back[None], (50, 90), mode="area")[0]
    assert np.corrcoef(shrunk.flatten(), image.flatten())[0, 1] > 0.8
    again = predictor(subject.record.image)
    assert torch.equal(again.scores, subject.record.detections.scores)


@pytest.mark.parametrize("point", [(90, 0), (-1, 10), (0, 50)])
def test_points_outside_are_refused(subject: Subject, point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="image of 90 x 50 pixels, so x from 0 to 89"):
        attention_picture(subject, point)


@pytest.mark.parametrize("command", ["pyramid", "merge"])
def test_pictures_are_written(
    tool: ModuleType, command: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config-file", str(QUICK["mask_rcnn"]), "--device", "cpu", "--opts", *RANDOM]
    arguments += ["--output", str(tmp_path / "out.png"), "--colors", "64"]
    arguments += [] if command == "merge" else ["--image", str(photo)]
    assert tool.main([command, *arguments]) == 0
    assert capsys.readouterr().out.endswith(f"Drawn: {tmp_path / 'out.png'}\n")
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.mode == "P" and picture.width > 900


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade_rcnn", "dino", "mask_rcnn_h6b_structure"])
def test_report_of_every_detector(tool: ModuleType, kind: str, photo: Path, tmp_path: Path) -> None:
    arguments = ["--config-file", str(ROOT / f"configs/quick/{kind}_scenes.py"), "--device", "cpu"]
    arguments += ["--image", str(photo), "--point", "80", "40", "--opts", *RANDOM]
    assert tool.main(["report", *arguments, "--output", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="zoomable"') == 5 and 'id="query"' in page
    assert "&lt;photo&gt;.png" in page and "<photo>" not in page
    output = ["--output", str(tmp_path / "attention.png"), "--by-head", "--interactions", "1"]
    assert tool.main(["attention", *arguments, *output]) == 0
    assert len(list(tmp_path.glob("attention_interaction1_*px_reads_*px.png"))) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "missing.png"], "missing.png"),
        (["--image", "PHOTO", "--interactions", "7"], "from 0 to 1; got [7]"),
        (["--image", "PHOTO", "--output", "no/folder/x.png"], "folder that there is"),
        (["--image", "PHOTO", "--colors", "1"], "from 2 to 256, got 1"),
        (["--image", "PHOTO", "--output", "x.jpg"], "must end in .png, as that is what is written"),
    ],
)
def test_mistakes_come_as_a_sentence(
    tool: ModuleType,
    arguments: list[str],
    message: str,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(photo) if argument == "PHOTO" else argument for argument in arguments]
    options = ["--config-file", str(QUICK["mask_rcnn"]), "--device", "cpu", "--opts", *RANDOM]
    options += ["--output", str(tmp_path / "out.png")]
    assert tool.main(["features", *options, *given]) == 1
    error = capsys.readouterr().err
    assert "visualize_piip.py: " in error and message in error


def test_report_is_a_page(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "--config-file", "x.py", "--image", "x.png", "--output"]
    assert tool.main([*arguments, "report.png"]) == 1
    assert "must end in .html" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main([*arguments, "report.html", "--colors", "64"])
    assert "unrecognized arguments: --colors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("image", "output", "message"),
    [
        ("none.png", "x.png", "none.png"),
        ("PHOTO", "x.jpg", ".png"),
        ("PHOTO", "no/x.png", "folder"),
    ],
)
def test_files_are_looked_at_before_a_model_is_built(
    tool: ModuleType,
    image: str,
    output: str,
    message: str,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tool, "Predictor", lambda *_, **__: pytest.fail("a model was built"))
    arguments = ["--config-file", "x.py", "--image", str(photo) if image == "PHOTO" else image]
    assert tool.main(["pyramid", *arguments, "--output", str(tmp_path / output)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("checkpoint", "of_config", "name"),
    [("a/one.pth", "b/two.pth", "one.pth"), ("", "b/two.pth", "two.pth"), ("", "", "random ones")],
)
def test_captions_name_the_weights(
    tool: ModuleType,
    checkpoint: str,
    of_config: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = OmegaConf.create({"train": {"init_checkpoint": of_config}})
    monkeypatch.setattr(tool, "Predictor", lambda *_, **__: SimpleNamespace(cfg=cfg, model=None))
    captions = []

    def draw(model: None, about: str) -> Picture:
        captions.append(about)
        return Picture("", "", b"")

    monkeypatch.setattr(tool.inside, "merge_picture", draw)
    arguments = ["--config-file", "x.py", "--checkpoint", checkpoint]
    assert tool.main(["merge", *arguments, "--output", str(tmp_path / "x.png")]) == 0
    assert captions == [f"Weights: {name}."]


def test_errors_leave_other_notes_alone(
    tool: ModuleType, tiny_coco: TinyCoco, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_coco_json("visualize_tool_test", tiny_coco.json_file, tiny_coco.image_root)
    (tmp_path / "metrics.json").write_text("of the run")
    config = Path(__file__).with_name("small_config.py")
    arguments = ["--config-file", str(config), "--device", "cpu", "--num-images", "1"]
    arguments += ["--threshold", "0.01", "--output", str(tmp_path / "metrics.png"), "--opts"]
    arguments += ["dataloader.test.dataset.names=visualize_tool_test", *RANDOM]
    high = "model.roi_heads.box_predictor.test_score_thresh=1.0"
    assert tool.main(["errors", *arguments, high]) == 0
    assert (tmp_path / "metrics.json").read_text() == "of the run"
    # Scores of random weights are far below 1; the lower threshold counts.
    noted = json.loads((tmp_path / "metrics_errors.json").read_text())
    (example,) = noted["examples"]
    assert example["num_found"] + len(example["false"]) > 0
    with pytest.raises(SystemExit):
        tool.main(["errors", "--help"])
    assert "_errors.json" in capsys.readouterr().out


def test_small_marks_keep_their_colours() -> None:
    pixels = np.random.default_rng(0).integers(0, 60, (200, 200, 3), dtype=np.uint8)
    pixels[:3, :3] = (204, 121, 167)
    few = with_fewer_colors(_picture(pixels))
    shown = np.asarray(_open(few).convert("RGB")).astype(int)
    assert np.abs(shown[:3, :3] - (204, 121, 167)).max() < 30


def _picture(pixels: np.ndarray) -> Picture:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return Picture("", "", content.getvalue())


def _open(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.png))
