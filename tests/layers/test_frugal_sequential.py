"""Norms and activations whose results are computed again, against plain layers."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from piip_d2.layers.frugal_sequential import FrugalSequential
from piip_d2.modeling.backbone.feature_maps import FeatureMaps

_Layers = Callable[[], list[nn.Module]]
# 2 x 8 x 70 x 70 elements are enough for the memory to be worth it.
_SIDE = 70


def _two_convolutions() -> list[nn.Module]:
    return [
        nn.Conv2d(8, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.GroupNorm(3, 6),
        nn.ReLU(inplace=True),
    ]


_CASES: dict[str, _Layers] = {
    "two convolutions": _two_convolutions,
    "norm first": lambda: [nn.GroupNorm(4, 8), nn.Conv2d(8, 6, 1), nn.GroupNorm(3, 6)],
    "norm alone": lambda: [LayerNorm2d(8), nn.GELU()],
    "enlarging": lambda: list(FeatureMaps(32, out_features=["res2"]).maps["res2"].children()),
}


def _pair(name: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    frugal = FrugalSequential(*_CASES[name]())
    for parameter in frugal.parameters():
        nn.init.normal_(parameter, std=0.3)
    channels = 32 if name == "enlarging" else 8
    x = torch.randn(2, channels, _SIDE, _SIDE + 2, dtype=dtype)
    x = x.to(memory_format=torch.channels_last)
    frugal = frugal.to(dtype)
    return frugal, nn.Sequential(*copy.deepcopy(list(frugal))), x


@pytest.mark.parametrize("name", _CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_autocast", [False, True])
def test_values_and_gradients_are_the_same(
    name: str, dtype: torch.dtype, with_autocast: bool, device: torch.device
) -> None:
    *pair, x = _pair(name, dtype)
    results = []
    for layers in pair:
        layers.to(device)
        source = x.to(device).requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=with_autocast):
            output = layers(source)
        wanted = [source, *layers.parameters()]
        results.append([output, *torch.autograd.grad(output.float().square().mean(), wanted)])
    tolerance = {"rtol": 0.0, "atol": 0.0} if device.type == "cpu" else {}
    torch.testing.assert_close(*results, **tolerance)


@pytest.mark.parametrize("name", _CASES)
def test_second_derivative(name: str) -> None:
    *pair, x = _pair(name, torch.float64)
    results = []
    for layers in pair:
        source = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layers(source).pow(3).mean(), source, create_graph=True)
        wanted = [source, *layers.parameters()]
        second = torch.autograd.grad(gradient.square().mean(), wanted, allow_unused=True)
        results.append([gradient, *[found for found in second if found is not None]])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("name", "kept"), [("two convolutions", (8 + 6 + 6) / 6), ("enlarging", 1 / 4 + 1)]
)
def test_only_what_is_dear_is_kept(name: str, kept: float) -> None:
    frugal, plain, x = _pair(name, torch.float32)
    # What convolutions give, and the result.
    assert _memory_left(frugal, x) == pytest.approx(kept, abs=0.05)
    assert _memory_left(plain, x) > kept + 0.2


def _memory_left(layers: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """What a call leaves in memory, as a multiple of its result's size."""
    with torch.profiler.profile(profile_memory=True) as profile:
        output = layers(x.requires_grad_())
    # Freed memory counts as negative.
    return sum(event.self_cpu_memory_usage for event in profile.events()) / output.nbytes


def test_half_of_the_memory_is_left_under_autocast() -> None:
    layers = [nn.GroupNorm(4, 8), nn.GELU(), nn.Conv2d(8, 8, 3, padding=1)]
    with torch.autocast("cpu", torch.bfloat16):
        # The result alone.
        assert _memory_left(FrugalSequential(*layers), _image()) == pytest.approx(1.0, abs=0.05)
        assert _memory_left(nn.Sequential(*layers), _image()) > 3.0


def test_checkpoint_around_it_is_left_alone() -> None:
    layers = FrugalSequential(*_two_convolutions())

    def call(x: Tensor) -> Tensor:
        result: Tensor = checkpoint(layers, x, use_reentrant=False)
        return result

    assert _memory_left(call, _image()) == pytest.approx(1.0, abs=0.05)


def test_small_maps_and_frozen_inputs_take_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module = sys.modules["piip_d2.layers.frugal_sequential"]
    monkeypatch.setattr(
        module, "checkpoint", lambda function, x, **_: (calls.append(x), function(x))[1]
    )
    layers = FrugalSequential(*_two_convolutions())
    layers(_image())
    layers(_image()[:, :, :4, :4].requires_grad_())
    assert not calls
    layers(_image().requires_grad_())
    assert len(calls) == 2


def test_graph_is_freed() -> None:
    layers = FrugalSequential(nn.Conv2d(8, 8, 1), nn.GroupNorm(4, 8), nn.Sigmoid())
    output = layers(_image().requires_grad_())
    # What a node of the graph notes lives as long as the node.
    note = torch.zeros(1)
    output.grad_fn.metadata["note"] = note
    is_alive = weakref.ref(note)
    del output, note
    gc.collect()
    assert is_alive() is None


@pytest.mark.parametrize("changed", ["weight", "input"])
def test_changes_in_place_are_noticed(changed: str) -> None:
    layers = FrugalSequential(nn.GELU(), nn.Conv2d(8, 8, 3))
    x = _image().requires_grad_() * 1.0
    output = layers(x)
    with torch.no_grad():
        (layers[1].weight if changed == "weight" else x).mul_(3.0)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_activation_in_place_behind_a_convolution() -> None:
    layers = [nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1)]
    results = []
    for kind in (FrugalSequential, nn.Sequential):
        x = _image().requires_grad_()
        output = kind(*layers)(x)
        results.append([output, *torch.autograd.grad(output.sum(), x)])
    torch.testing.assert_close(*results, rtol=0.0, atol=0.0)


def test_layers_with_hooks_are_called_once() -> None:
    layers = FrugalSequential(*_two_convolutions())
    calls: list[nn.Module] = []
    layers[1].register_forward_hook(lambda module, *_: calls.append(module))
    layers(_image().requires_grad_()).sum().backward()
    assert calls == [layers[1]]


def _image() -> Tensor:
    torch.manual_seed(0)
    image = torch.randn(2, 8, _SIDE, _SIDE)
    return image.to(memory_format=torch.channels_last)


def test_compiled_and_without_gradients(device: torch.device) -> None:
    frugal, plain, x = _pair("two convolutions", torch.float32)
    frugal, plain, x = frugal.to(device), plain.to(device), x.to(device)
    with torch.no_grad():
        torch.testing.assert_close(frugal(x), plain(x))
    compiled = torch.compile(frugal, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x.requires_grad_()), plain(x))
