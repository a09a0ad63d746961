"""The released detector, from its feature maps on: outputs, losses, gradients, noise."""

from __future__ import annotations

import pytest
import torch

from piip_d2.checkpoint import export_detector_state_dict
from piip_d2.modeling import DINO
from piip_d2.modeling.dino.inference import select_detections
from tests.modeling.dino.tiny import (
    build_golden_model,
    golden_targets,
    load_golden,
    our_name,
    run_golden,
    stored_noise,
)

LAYER_PREFIX = "bbox_head."


@pytest.fixture(scope="module")
def model() -> DINO:
    return build_golden_model()


@torch.no_grad()
def test_outputs(model: DINO) -> None:
    golden = load_golden()
    maps = model.backbone(torch.zeros(1, 3, 64, 64))
    for x, expected in zip(maps.values(), golden["neck"], strict=True):
        torch.testing.assert_close(x, expected, atol=1e-5, rtol=0)

    output = run_golden(model.eval(), None)
    assert output.denoising is None
    for actual, name in (
        (output.decoder.logits, "cls"),
        (output.decoder.boxes, "box"),
        (output.encoder.logits[0], "enc_cls"),
        (output.encoder.boxes[0], "enc_box"),
    ):
        torch.testing.assert_close(actual, golden[name], atol=1e-4, rtol=0)


@torch.no_grad()
def test_detections(model: DINO) -> None:
    golden = load_golden()
    output = run_golden(model.eval(), None)
    found = select_detections(
        output.decoder.logits[-1],
        output.decoder.boxes[-1],
        golden["sizes"],
        topk=golden["cfg"]["topk"],
    )
    for instances, boxes, labels in zip(found, golden["dets"], golden["labels"], strict=True):
        assert torch.equal(instances.pred_classes, labels)
        torch.testing.assert_close(instances.scores, boxes[:, 4], atol=1e-5, rtol=0)
        torch.testing.assert_close(instances.pred_boxes.tensor, boxes[:, :4], atol=5e-4, rtol=0)


@pytest.mark.parametrize("last_is_empty", [False, True])
def test_losses(model: DINO, last_is_empty: bool) -> None:
    golden = load_golden()
    expected = golden["losses_one_empty" if last_is_empty else "losses"]
    targets = golden_targets(last_is_empty=last_is_empty)
    noisy = stored_noise()
    if last_is_empty:
        torch.manual_seed(golden["seed"])
        noisy = model.denoising(targets)
    losses = model.criterion(run_golden(model.train(), noisy), targets, noisy)
    assert set(losses) == {our_name(name) for name in expected}
    for name, value in expected.items():
        assert losses[our_name(name)].item() == pytest.approx(value, rel=1e-4), name


def test_gradients(model: DINO) -> None:
    golden = load_golden()
    targets = golden_targets()
    torch.manual_seed(golden["seed"])
    noisy = model.train().denoising(targets)
    model.zero_grad()
    losses = model.criterion(run_golden(model, noisy), targets, noisy)
    torch.stack(list(losses.values())).sum().backward()
    norms = {
        name: parameter.grad.norm()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    official = export_detector_state_dict(norms, "dino")
    actual = {
        name.removeprefix(LAYER_PREFIX): x.item()
        for name, x in official.items()
        if name.startswith(LAYER_PREFIX)
    }
    assert set(actual) == set(golden["grad_norms"])
    for name, value in golden["grad_norms"].items():
        assert actual[name] == pytest.approx(value, rel=1e-3), name


def test_noise(model: DINO) -> None:
    golden = load_golden()
    torch.manual_seed(golden["seed"])
    noisy = model.denoising(golden_targets())
    assert noisy.num_groups == golden["dn_meta"]["num_dn_group"]
    assert noisy.content.shape[1] == golden["dn_meta"]["pad_size"]
    assert torch.equal(noisy.content, golden["dn_label_query"])
    torch.testing.assert_close(noisy.box_logits, golden["dn_bbox_query"], atol=2e-6, rtol=0)
    mask = noisy.attention_mask(golden["cfg"]["num_queries"])
    assert torch.equal(mask, golden["dn_attn_mask"])
