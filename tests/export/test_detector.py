"""An exported DINO finds what the detector finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from piip_d2.export import ExportableDINO, compare, export_detector
from tests.export.small import small_dino


def test_canvas_gives_what_the_detector_gives() -> None:
    """Whatever stands beside the image."""
    detector = small_dino()
    sizes = [(90, 128), (96, 120)]
    images = [torch.randint(0, 256, (3, *size)).float() for size in sizes]
    canvas = 255 * torch.rand(2, 3, 96, 128)
    for number, image in enumerate(images):
        canvas[number, :, : image.shape[1], : image.shape[2]] = image
    with torch.no_grad():
        expected = [found["instances"] for found in detector([{"image": x} for x in images])]
        boxes, scores, classes = ExportableDINO(detector)(canvas, torch.tensor(sizes))
    for number, found in enumerate(expected):
        torch.testing.assert_close(boxes[number], found.pred_boxes.tensor)
        torch.testing.assert_close(scores[number], found.scores)
        assert torch.equal(classes[number], found.pred_classes)


def test_program_holds_for_smaller_images(tmp_path: Path) -> None:
    exported = export_detector(small_dino(), tmp_path / "dino.pt2", (90, 128))
    assert exported.examples[0][0].shape == (1, 3, 96, 128)
    differences = compare(exported)
    assert [(entry.size, entry.name) for entry in differences] == [
        (size, name) for size in ((90, 128), (64, 96)) for name in ("boxes", "scores", "classes")
    ]
    assert all(entry.largest <= 1e-5 * max(entry.scale, 1.0) for entry in differences)
    program = torch.export.load(exported.path)
    assert not [node for node in program.graph.nodes if "piip_d2" in str(node.target)]


@pytest.mark.slow
def test_onnx_file_finds_the_same(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    exported = export_detector(small_dino(), tmp_path / "dino.onnx", (90, 128))
    differences = compare(exported)
    assert {entry.size for entry in differences} == {(90, 128), (64, 96)}
    for entry in differences:
        assert entry.largest <= (0.0 if entry.name == "classes" else 2e-5 * max(entry.scale, 1.0))
        assert entry.is_close


def test_other_detectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only DINO is exported as a whole, got Linear"):
        export_detector(nn.Linear(2, 2).eval(), tmp_path / "x.onnx", (64, 64))


def test_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="call model.eval"):
        export_detector(small_dino().train(), tmp_path / "x.onnx", (64, 64))
