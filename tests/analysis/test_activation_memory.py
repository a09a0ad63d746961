"""Memory counted without numbers is that which a real forward pass keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from piip_d2.analysis.activation_memory import PARTS, count_activations
from piip_d2.analysis.padding import padded_size
from piip_d2.analysis.recomputation import set_act_checkpoint
from piip_d2.analysis.storage_watch import WEIGHT_COPIES
from piip_d2.analysis.training_forward import run_forward
from piip_d2.analysis.without_numbers import copy_without_numbers
from piip_d2.modeling import DINO
from tests.modeling.dino.tiny import build_small_model, build_small_pyramid

SIZE = (128, 96)
SWITCHED = ("branches", "interactions", "encoder", "decoder")


@pytest.fixture
def model() -> DINO:
    return build_small_pyramid()


def switch(model: DINO, *parts: str) -> None:
    set_act_checkpoint(model, {part: part in parts for part in SWITCHED})


@pytest.mark.parametrize(
    ("dtype", "parts"),
    [
        (torch.float32, SWITCHED),
        (torch.bfloat16, ()),
        pytest.param(torch.float32, (), marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, SWITCHED, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_count_without_numbers_is_that_of_real_storages(
    model: DINO, dtype: torch.dtype, parts: tuple[str, ...]
) -> None:
    switch(model, *parts)
    real = count_activations(model, SIZE, batch_size=2, dtype=dtype)
    planned = count_activations(copy_without_numbers(model), SIZE, batch_size=2, dtype=dtype)
    assert list(real) == [*PARTS, WEIGHT_COPIES]
    assert (real[WEIGHT_COPIES] > 0) == (dtype != torch.float32)
    if dtype == torch.float32:
        assert planned == real
    else:
        # Without numbers, the few statistics of norms come in the type of the norm's input.
        assert planned == pytest.approx(real, rel=0.02)


def test_plain_count_is_what_autograd_saves_and_what_comes_out(model: DINO) -> None:
    weights = {x.untyped_storage()._cdata for x in (*model.parameters(), *model.buffers())}
    images = torch.zeros(1, 3, *padded_size(SIZE, model.backbone))
    weights.add(images.untyped_storage()._cdata)
    kept = {}

    def keep(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = run_forward(model.train(), images, SIZE)
    for predictions in (output.encoder, output.decoder, output.denoising):
        assert predictions is not None
        for tensor in (predictions.logits, predictions.boxes):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
    saved = sum(storage.nbytes() for storage in kept.values())
    assert sum(count_activations(model, SIZE).values()) == saved


def test_each_switch_saves_in_its_own_part(model: DINO) -> None:
    switch(model)
    plain = count_activations(model, SIZE)
    for part in SWITCHED:
        switch(model, part)
        counted = count_activations(model, SIZE)
        assert counted[part] < 0.7 * plain[part], part
        others = set(SWITCHED) - {part}
        assert all(counted[other] == pytest.approx(plain[other], rel=0.05) for other in others)
        assert sum(counted.values()) < sum(plain.values())


def test_recomputed_encoder_keeps_its_inputs_alone(model: DINO) -> None:
    switch(model, "encoder")
    counted = count_activations(model, (128, 128))
    tokens = 16**2 + 8**2 + 4**2 + 2**2
    # The first layer's input is made before; positions and places in four maps come on top.
    inputs = 4 * tokens * 32
    assert counted["encoder"] >= inputs
    assert counted["encoder"] <= 2 * inputs + 4 * tokens * (2 * 4 + 1)


def test_memory_grows_with_the_batch(model: DINO) -> None:
    one, four = (sum(count_activations(model, SIZE, batch_size=n).values()) for n in (1, 4))
    assert one * 3.9 < four < one * 4.1


def test_any_backbone_is_counted() -> None:
    counted = count_activations(build_small_model(), SIZE)
    assert counted["other_backbone"] > 0
    assert counted["branches"] == counted["interactions"] == 0


def test_model_is_left_as_it_was(model: DINO) -> None:
    model.eval()
    count_activations(model, SIZE)
    assert not model.training and not model.backbone.training
    assert all(not module._forward_hooks for module in model.modules())


def test_wrong_arguments_are_refused(model: DINO) -> None:
    with pytest.raises(ValueError, match=r"must be positive, got \(0, 5\) and 1"):
        count_activations(model, (0, 5))
