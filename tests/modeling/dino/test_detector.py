"""The whole detector on small networks: what may come in, and what must come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import Tensor

from piip_d2.layers import activation_checkpoint
from piip_d2.modeling import DINO
from tests.modeling.dino.tiny import build_small_model, disturb, make_input

NUM_LOSSES = 3 * (3 + 1 + 3)


def train_step(model: DINO, batch: list) -> dict[str, Tensor]:
    losses = model.train()(batch)
    torch.stack(list(losses.values())).sum().backward()
    return losses


def assert_trains_everything(model: DINO) -> None:
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert unused == []
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    model = build_small_model(square_size=192, topk_per_image=50).eval()
    disturb(model)
    batch = [make_input((160, 101), 1), make_input((90, 190), 1), make_input((192, 192), 1)]
    together = model(batch)
    for one_input, expected in zip(batch, together, strict=True):
        (alone,) = model([one_input])
        found, wanted = alone["instances"], expected["instances"]
        assert len(found) == len(wanted) > 0
        assert torch.equal(found.pred_classes, wanted.pred_classes)
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            found.pred_boxes.tensor, wanted.pred_boxes.tensor, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("counts", [(3, 1), (2, 0), (0, 0), (40, 2)])
def test_any_number_of_objects(counts: tuple[int, int]) -> None:
    model = build_small_model()
    batch = [
        make_input(size, count) for size, count in zip([(70, 90), (64, 64)], counts, strict=True)
    ]
    losses = train_step(model, batch)
    assert len(losses) == NUM_LOSSES
    assert all(x.isfinite() for x in losses.values())
    assert_trains_everything(model)


def test_objects_of_unknown_classes_are_refused() -> None:
    model, one_input = build_small_model().train(), make_input((64, 64), 2)
    one_input["instances"].gt_classes[1] = 5
    with pytest.raises(
        ValueError, match=r"num_classes - 1 \(4\), got \d to 5; set model.num_classes"
    ):
        model([one_input])


def test_inputs_without_objects_are_refused_in_training() -> None:
    model, one_input = build_small_model(), make_input((64, 64), 2)
    del one_input["instances"]
    with pytest.raises(ValueError, match="under 'instances', got inputs with .'image'"):
        model.train()([one_input])
    model.eval()([one_input])


def test_diverged_networks_find_nothing() -> None:
    model = build_small_model().eval()
    for spoilt in ("bbox_embed", "class_embed"):
        head = model.transformer.heads[-2].get_submodule(spoilt)
        for parameter in head.parameters():
            torch.nn.init.constant_(parameter, torch.nan)
        assert len(model([make_input((64, 64), 0)])[0]["instances"]) == 0


def test_no_objects_cost_no_boxes() -> None:
    losses = train_step(build_small_model(), [make_input((64, 64), 0)])
    for name, x in losses.items():
        is_zero = "class" not in name or "dn" in name
        assert (x.item() == 0.0) == is_zero, name


def test_fewer_tokens_than_queries() -> None:
    model = build_small_model(num_queries=500)
    batch = [make_input((64, 64), 2)]
    losses = train_step(model, batch)
    assert all(x.isfinite() for x in losses.values())
    (found,) = model.eval()(batch)
    assert len(found["instances"]) <= 300


def test_five_levels_use_stride_4() -> None:
    model = build_small_model(num_levels=5)
    strides = [shape.stride for shape in model.backbone.output_shape().values()]
    assert strides == [4, 8, 16, 32, 64]
    assert list(model.backbone.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    train_step(model, [make_input((128, 96), 2)])
    assert_trains_everything(model)


def test_training_without_denoising() -> None:
    model = build_small_model()
    model.denoising = None
    losses = train_step(model, [make_input((64, 64), 2)])
    assert len(losses) == 3 * (3 + 1)
    assert_trains_everything(model)


@pytest.mark.parametrize("parts", [{"encoder"}, {"decoder"}, {"encoder", "decoder"}], ids=str)
def test_recomputation_changes_nothing(parts: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    batch = [make_input((64, 96), 3), make_input((80, 64), 1)]
    num_recomputed = []
    counted = count_calls(activation_checkpoint.checkpoint, num_recomputed)
    monkeypatch.setattr(activation_checkpoint, "checkpoint", counted)
    results = []
    for wanted in (set(), parts):
        torch.manual_seed(2)
        switches = {f"use_{part}_act_checkpoint": part in wanted for part in ("encoder", "decoder")}
        model = build_small_model(**switches)
        losses = train_step(model, batch)
        results.append((losses, {n: p.grad for n, p in model.named_parameters()}))
        # Two layers in the encoder, three in the decoder.
        assert len(num_recomputed) == 2 * ("encoder" in wanted) + 3 * ("decoder" in wanted)
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=0, rtol=0)
    with torch.no_grad():
        model.eval()(batch)
    assert len(num_recomputed) == 2 * ("encoder" in parts) + 3 * ("decoder" in parts)


def count_calls(function: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def counted(*args: Any, **options: Any) -> Any:
        calls.append(len(calls))
        return function(*args, **options)

    return counted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_boxes_and_losses_in_32_bits(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    model, batch = build_small_model(), [make_input((64, 96), 2)]
    with torch.autocast("cpu", dtype=dtype):
        losses = model.train()(batch)
        images = model.preprocess_images(batch)
        maps = list(model.backbone(images.tensor).values())
        output = model.transformer(maps, images.image_sizes, tuple(images.tensor.shape[-2:]))
    assert {x.dtype for x in losses.values()} == {torch.float32}
    assert output.decoder.boxes.dtype == output.encoder.logits.dtype == torch.float32
    torch.stack(list(losses.values())).sum().backward()
    assert_trains_everything(model)


@torch.no_grad()
def test_detections_come_at_the_wanted_size() -> None:
    model = build_small_model(topk_per_image=12).eval()
    one_input = make_input((64, 96), 0) | {"height": 640, "width": 960}
    found = model([one_input])[0]["instances"]
    assert found.image_size == (640, 960)
    assert 0 < len(found) <= 12
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    boxes = found.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes <= torch.tensor([960, 640, 960, 640])).all()
    model.test_score_thresh = found.scores[3].item()
    assert len(model([one_input])[0]["instances"]) == 4


def test_losses_reach_the_box_head_of_the_layer_before() -> None:
    """Look forward twice: but not of the one before that."""
    model = build_small_model()
    disturb(model)
    losses = model.train()([make_input((64, 96), 2)])
    (losses["loss_bbox"] + losses["loss_giou"]).backward()
    grads = [head.bbox_embed.layers[-1].weight.grad for head in model.transformer.heads]
    assert grads[0] is None or grads[0].abs().sum() == 0
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads[1:3])


class PictureStorage(EventStorage):
    """Keeps the pictures, and when they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[int, np.ndarray] = {}

    def put_image(self, img_name: str, img_tensor: np.ndarray) -> None:
        self.pictures[self.iter] = img_tensor


def test_pictures_of_training() -> None:
    pytest.importorskip("cv2")
    model = build_small_model(vis_period=2)
    with PictureStorage() as storage:
        for storage.iter in range(3):
            model.train()([make_input((64, 96), 2)])
    assert list(storage.pictures) == [0, 2]
    assert storage.pictures[0].shape == (3, 128, 96)
