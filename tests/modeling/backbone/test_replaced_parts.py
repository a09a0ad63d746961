"""Parts of one's own work on maps of every size, as those do that they replace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from piip_d2.layers import DeformableCrossAttention, RelativePositionAttention, WindowAttention
from piip_d2.modeling.backbone.interaction import CrossBranchAttention, build_interactions
from piip_d2.modeling.backbone.vit_block import ViTBlock, build_vit_block
from piip_d2.ops import saves_memory

# The smallest map for which training keeps less, by arguments that parts of one's own lack.
SHAPE = (1, 32, 32, 64)
DIM = SHAPE[-1]


class OwnAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2), keepdim=True).expand_as(x)


class OwnWindowAttention(WindowAttention):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OwnCrossAttention(DeformableCrossAttention):
    def forward(self, query: Tensor, feature: Tensor) -> Tensor:
        return 2 * super().forward(query, feature)


class OwnLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def _block() -> ViTBlock:
    return build_vit_block(DIM, 4, window_size=8)


def _relative_block() -> ViTBlock:
    attn = RelativePositionAttention(DIM, 4, window_size=8)
    return ViTBlock(DIM, attn, init_values=1.0)


def _exchange() -> nn.Module:
    stage = build_interactions([[DIM, DIM]], num_heads=4, drop_path_rate=0.0)[0]
    direction = stage.units[0].high_to_low
    assert isinstance(direction, CrossBranchAttention)
    nn.init.ones_(direction.attn_gamma)
    nn.init.ones_(direction.ffn_gamma)
    nn.init.normal_(direction.attn.deform.sampling_offsets.weight)
    nn.init.normal_(direction.attn.deform.attention_weights.weight)
    return _WithItself(direction)


class _WithItself(nn.Module):
    def __init__(self, direction: CrossBranchAttention) -> None:
        super().__init__()
        self.direction = direction

    def forward(self, x: Tensor) -> Tensor:
        return self.direction(x, x.flip(1))


def _check(model: nn.Module, name: str, part: nn.Module) -> None:
    """The part is used, by training as by inference, and gets gradients."""
    x = torch.randn(SHAPE, requires_grad=True)
    assert saves_memory(x)
    before = model(x)
    model.set_submodule(name, part)
    with torch.no_grad():
        expected = model(x)
    output = model(x)
    assert not torch.allclose(output, before, atol=1e-3)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())


def test_attention() -> None:
    _check(_block(), "attn", OwnAttention())


def test_subclass_of_the_attention() -> None:
    _check(_block(), "attn", OwnWindowAttention(DIM, 4))


@pytest.mark.parametrize("scale", [nn.Hardtanh(-0.1, 0.1), nn.Identity()])
def test_scale(scale: nn.Module) -> None:
    block = _block()
    nn.init.constant_(block.ls1.gamma, 3.0)
    _check(block, "ls1", scale)


def test_subclass_of_the_cross_attention() -> None:
    model = _exchange()
    _check(model, "direction.attn", OwnCrossAttention(model.direction.attn.deform))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((_block, name) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.act")),
        *((_relative_block, name) for name in ("attn.qkv", "attn.proj")),
        *(
            (_exchange, f"direction.{name}")
            for name in (
                *("attn.deform.sampling_offsets", "attn.deform.attention_weights"),
                *("attn.deform.value_proj", "attn.deform.output_proj"),
                *("ffn.fc1", "ffn.fc2", "ffn.act"),
            )
        ),
    ],
)
def test_layer(make: Callable[[], nn.Module], name: str) -> None:
    model = make()
    old = model.get_submodule(name)
    if not isinstance(old, nn.Linear):
        _check(model, name, nn.Hardtanh(-0.1, 0.1))
        return
    new = OwnLinear(old.in_features, old.out_features, bias=old.bias is not None)
    _check(model, name, new)
