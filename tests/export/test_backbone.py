"""Exported backbones give the maps of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from piip_d2.export import Exported, compare, export_backbone
from tests.export.small import LEVELS, small_network

TOLERANCE = 2e-5


def check(exported: Exported, sizes: list[tuple[int, int]]) -> None:
    differences = compare(exported)
    assert [(entry.size, entry.name) for entry in differences] == [
        (size, name) for size in sizes for name in LEVELS
    ]
    assert all(entry.largest <= TOLERANCE * max(entry.scale, 1.0) for entry in differences)
    assert all(entry.is_close for entry in differences)
    # The comparison means something: the maps of two images differ.
    assert all(entry.scale > 1e-2 for entry in differences)


def test_onnx_file_runs_in_onnxruntime(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = export_backbone(small_network(), tmp_path / "backbone.onnx", (128, 160))
    check(exported, [(128, 160)])
    model = onnx.load(exported.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert "GridSample" in {node.op_type for node in model.graph.node}
    session = runtime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    assert [entry.name for entry in session.get_outputs()] == LEVELS
    # A network alone does not know what it was trained with.
    assert session.get_modelmeta().custom_metadata_map == {
        "part": "backbone",
        "images": "normalised, and then padded with zeros",
        "size_divisibility": "16",
    }


@pytest.mark.slow
def test_one_onnx_file_for_all_sizes(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    exported = export_backbone(
        small_network(), tmp_path / "backbone.onnx", (128, 160), dynamic=True, opset=20
    )
    check(exported, [(128, 160), (144, 192)])


@pytest.mark.slow
def test_one_program_for_all_sizes(tmp_path: Path) -> None:
    exported = export_backbone(small_network(), tmp_path / "backbone.pt2", (128, 160), dynamic=True)
    check(exported, [(128, 160), (144, 192)])
    program = torch.export.load(exported.path)
    assert not [node for node in program.graph.nodes if "piip_d2" in str(node.target)]
    module = program.module(check_guards=False)
    # One window, and the grid that positions were learned on.
    for size in ((64, 64), (128, 128), (48, 256)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(
                module(images), exported.module(images), atol=TOLERANCE, rtol=TOLERANCE
            )


def test_program_of_one_size_and_batch(tmp_path: Path) -> None:
    network = small_network()
    detector = nn.ModuleDict({"backbone": network}).eval()
    detector.backbone = network
    exported = export_backbone(detector, tmp_path / "backbone.pt2", (96, 128), batch_size=2)
    check(exported, [(96, 128)])
    assert exported.examples[0][0].shape == (2, 3, 96, 128)


def _half(network: nn.Module) -> nn.Module:
    return network.bfloat16()


def _compiled(network: nn.Module) -> nn.Module:
    network.compile(backend="eager")
    return network


def _plain(network: nn.Module) -> nn.Module:
    return nn.Conv2d(3, 4, 1).eval()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (nn.Module.train, {}, "call model.eval"),
        (_half, {}, "float32, got weights of torch.bfloat16"),
        (_compiled, {}, "train.compile.enabled=False"),
        (_plain, {}, "must be a PIIPNetwork or hold one, got Conv2d"),
        (nn.Module.eval, {"opset": 17}, "opset must be 18 or higher, got 17"),
        (nn.Module.eval, {"image_size": (100, 128)}, "export it for 112 x 128"),
        (nn.Module.eval, {"path": "backbone.pth"}, "must end in .onnx or .pt2"),
        (nn.Module.eval, {"path": "no/folder.pt2"}, "make the folder first"),
    ],
)
def test_refusals(tmp_path: Path, change: Any, options: dict[str, Any], message: str) -> None:
    arguments = {"path": "backbone.pt2", "image_size": (128, 128), **options}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=message):
        export_backbone(change(small_network()), **arguments)
