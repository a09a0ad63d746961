"""``torch.compile`` makes one graph of the backbone, also within whole detectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from piip_d2.engine.compilation import compile_backbone
from tests.export.small import small_dino, small_mask_rcnn, small_network

# No map is a single window high or wide, which has a layout and so a graph of its own.
SIZES = ((128, 160), (160, 224), (192, 128))


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


@torch.no_grad()
def test_backbone_is_one_graph() -> None:
    network = small_network()
    explanation = torch._dynamo.explain(network)(torch.randn(1, 3, 128, 160))
    assert explanation.graph_count == 1
    assert explanation.graph_break_count == 0


@pytest.mark.slow
@torch.no_grad()
def test_detector_around_a_compiled_backbone() -> None:
    """One graph for all images, though the heads are not compiled."""
    detector = small_dino()
    inputs = [[{"image": 255 * torch.rand(3, *size)}] for size in SIZES]
    expected = [detector(one)[0]["instances"] for one in inputs]
    counter = CompileCounterWithBackend("eager")
    assert compile_backbone(detector, backend=counter, dynamic=True) == 1
    for one, found in zip(inputs, expected, strict=True):
        output = detector(one)[0]["instances"]
        torch.testing.assert_close(output.pred_boxes.tensor, found.pred_boxes.tensor)
        torch.testing.assert_close(output.scores, found.scores)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_dino, small_mask_rcnn])
@torch.no_grad()
def test_no_break_of_a_compiled_detector_is_in_the_backbone(make: Callable[[], nn.Module]) -> None:
    """The heads may break the graph where numbers of detections are not known."""
    detector = make()
    inputs = [{"image": 255 * torch.rand(3, 96, 128)}]
    expected = detector(inputs)[0]["instances"]
    explanation = torch._dynamo.explain(detector)(inputs)
    places = [frame.filename for reason in explanation.break_reasons for frame in reason.user_stack]
    assert not [place for place in places if "/modeling/backbone/" in place]
    compiled = torch.compile(detector, backend="eager")
    assert isinstance(compiled, nn.Module)
    output = compiled(inputs)[0]["instances"]
    torch.testing.assert_close(output.pred_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(output.scores, expected.scores)
