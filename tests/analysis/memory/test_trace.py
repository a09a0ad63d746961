"""Memory traced without numbers is that which a real step takes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from piip_d2.analysis.memory.dino_step import dino_losses
from piip_d2.analysis.memory.recomputation import set_act_checkpoint
from piip_d2.analysis.memory.storage_watch import WEIGHT_COPIES
from piip_d2.analysis.memory.trace import (
    Batch,
    count_activations,
    trace_detection,
    trace_training,
)
from piip_d2.analysis.without_numbers import copy_without_numbers
from piip_d2.modeling import DINO
from piip_d2.modeling.padding import padded_size
from piip_d2.ops.attention import attention, without_matrix_of_weights
from tests.analysis.small import small_detector
from tests.modeling.dino.tiny import build_small_model, build_small_pyramid

SIZE = (128, 96)
SWITCHED = ("branches", "interactions", "encoder", "decoder")


@pytest.fixture
def model() -> DINO:
    return build_small_pyramid()


def switch(model: nn.Module, *parts: str, mode: bool | str = True) -> None:
    set_act_checkpoint(model, {part: part in parts and mode for part in SWITCHED})


def by_kind(counts: dict[str, int]) -> dict[str, int]:
    """All branches together."""
    kinds: dict[str, int] = {}
    for part, size in counts.items():
        kind = "branches" if part.startswith("branches.") else part
        kinds[kind] = kinds.get(kind, 0) + size
    return kinds


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
    batch = Batch(SIZE, 2, dtype)
    real = count_activations(model, batch)
    planned = count_activations(copy_without_numbers(model), batch)
    assert (real.get(WEIGHT_COPIES, 0) > 0) == (dtype != torch.float32)
    # Without numbers, the few statistics of norms come in the type of the norm's input.
    assert planned == pytest.approx(real, rel=0 if dtype == torch.float32 else 0.02)


def test_plain_count_is_what_autograd_saves_and_what_comes_out(model: DINO) -> None:
    weights = {x.untyped_storage()._cdata for x in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.zeros(1, 3, *padded_size(SIZE, model.backbone))
        loss = dino_losses(model.train(), images, SIZE, 10)
    kept[loss.untyped_storage()._cdata] = loss.untyped_storage()
    saved = sum(storage.nbytes() for storage in kept.values())
    assert sum(count_activations(model, Batch(SIZE)).values()) == pytest.approx(saved, rel=1e-3)


def test_each_switch_saves_in_its_own_part(model: DINO) -> None:
    count = partial(count_activations, copy_without_numbers(model).train(), Batch(SIZE))
    planned = count.args[0]
    switch(planned)
    plain = by_kind(count())
    for part in SWITCHED:
        switch(planned, part)
        counted = by_kind(count())
        assert counted[part] < 0.7 * plain[part], part
        others = set(SWITCHED) - {part}
        assert all(counted[other] == pytest.approx(plain[other], rel=0.05) for other in others)


def test_modes_keep_less_and_less(model: DINO) -> None:
    planned = copy_without_numbers(model)
    sizes = []
    for mode in (False, "selective", "block"):
        switch(planned, *SWITCHED, mode=mode)
        sizes.append(sum(count_activations(planned, Batch(SIZE)).values()))
    assert sizes == sorted(sizes, reverse=True) and sizes[1] < 0.9 * sizes[0]


def test_a_step_has_its_phases() -> None:
    batch = Batch((128, 128))
    make_optimizer = partial(_sgd, foreach=False)
    trace = trace_training(small_detector(), batch, make_optimizer=make_optimizer)
    weights = sum(p.numel() * 4 for p in small_detector().parameters() if p.requires_grad)
    assert sum(trace.kept.values()) <= trace.forward_peak
    assert trace.gradients == pytest.approx(weights, rel=1e-3)
    assert trace.optimizer_states == pytest.approx(weights, rel=1e-3)
    assert trace.backward_peak > trace.gradients
    assert {"branches.0", "branches.2", "interactions", "merge", "neck", "rpn", "roi_heads"} <= set(
        trace.kept
    )
    many = trace_training(
        small_detector(),
        batch,
        make_optimizer=partial(_sgd, foreach=True),
        has_gradients=True,
    )
    assert many.gradients < 0.01 * weights
    assert many.backward_peak < trace.backward_peak
    assert many.update_peak > trace.update_peak


def test_weights_of_attention_are_kept_on_a_cpu_alone(model: DINO) -> None:
    planned = copy_without_numbers(model)
    cpu, cuda = (
        by_kind(count_activations(planned, Batch(SIZE, 1, torch.bfloat16, 4, device)))
        for device in ("cpu", "cuda")
    )
    # With as few keys as here the weights are smaller than what stands for them on a GPU.
    assert cuda.pop("branches") != cpu.pop("branches")
    assert cuda == cpu
    heads = [torch.randn(1, 2, 4, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    plain = attention(*heads).grad_fn
    with pytest.raises(RuntimeError, match="any"), without_matrix_of_weights():
        assert type(attention(*heads).grad_fn) is not type(plain)
        raise RuntimeError("any")
    assert type(attention(*heads).grad_fn) is type(plain), "the switch is back"


def test_detection_keeps_nothing() -> None:
    batch = Batch((256, 256))
    found = trace_detection(small_detector(), batch)
    assert found.kept == {}
    assert 0 < found.forward_peak < trace_training(small_detector(), batch).backward_peak
    detection = trace_detection(copy_without_numbers(build_small_model()), Batch(SIZE))
    assert detection.forward_peak > 0


def test_memory_grows_with_the_batch() -> None:
    planned = copy_without_numbers(build_small_model())
    one, four = (sum(count_activations(planned, Batch(SIZE, n)).values()) for n in (1, 4))
    assert one * 3.9 < four < one * 4.1


def test_any_backbone_is_counted() -> None:
    counted = count_activations(build_small_model(), Batch(SIZE))
    assert counted["other_backbone"] > 0 and "branches.0" not in counted


def test_model_is_left_as_it_was(model: DINO) -> None:
    model.eval()
    count_activations(model, Batch(SIZE))
    assert not model.training and not model.backbone.training
    assert all(not module._forward_hooks for module in model.modules())


def test_wrong_arguments_are_refused(model: DINO) -> None:
    with pytest.raises(ValueError, match=r"must be positive, got \(0, 5\), 1 and 10"):
        count_activations(model, Batch((0, 5)))
    with pytest.raises(ValueError, match=r"for the devices \('cpu', 'cuda'\), got 'tpu'"):
        count_activations(model, Batch(SIZE, device="tpu"))
    with pytest.raises(ValueError, match="for DINO, Mask R-CNN and Cascade R-CNN; got a Linear"):
        count_activations(nn.Linear(1, 1), Batch(SIZE))


def _sgd(model: nn.Module, *, foreach: bool) -> torch.optim.Optimizer:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    return torch.optim.SGD(model.parameters(), **options, foreach=foreach)
