"""What is computed again, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from piip_d2.layers import Linear, WindowAttention
from piip_d2.layers.activation_checkpoint import ActivationCheckpointing

MODES = (False, True, "block", "stage", "selective")


class Block(ActivationCheckpointing):
    """Attention, dropout and an MLP; counts how often each runs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attn = WindowAttention(16, 2, window_size=2)
        self.mlp = nn.Sequential(Linear(16, 32), nn.GELU(), nn.Dropout(0.5), Linear(32, 16))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.run_checkpointed(self.transform, x)
        return output

    def transform(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = x + self.attn(self.norm(x))
        return x + self.mlp(x)


def calls_and_gradients(mode: bool | str, *, amp: bool = False) -> tuple[int, list[Tensor]]:
    torch.manual_seed(0)
    blocks = nn.Sequential(Block(), Block())
    for block in blocks:
        block.use_act_checkpoint = mode
    x = torch.randn(1, 4, 4, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        loss = blocks(x).float().square().sum()
    loss.backward()
    calls = sum(block.calls for block in blocks)
    return calls, [loss.detach(), *(p.grad for p in (x, *blocks.parameters()))]


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("mode", MODES[1:], ids=str)
def test_gradients_are_the_same_to_the_bit(mode: bool | str, amp: bool) -> None:
    plain_calls, plain = calls_and_gradients(False, amp=amp)
    calls, gradients = calls_and_gradients(mode, amp=amp)
    assert (plain_calls, calls) == (2, 4)
    for expected, found in zip(plain, gradients, strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_blocks_may_run_twice_under_autocast(mode: bool | str) -> None:
    block, x = Block(), torch.randn(1, 4, 4, 16)
    block.use_act_checkpoint = mode
    with torch.autocast("cpu", torch.bfloat16):
        block(block(x)).float().square().sum().backward()
    calls = block.calls
    assert calls == (4 if mode else 2)
    block.eval()(x).sum().backward()
    assert block.calls == calls + 1, "without training nothing is computed again"


def test_selective_runs_products_with_weights_once() -> None:
    ran: list[str] = []

    class Record(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            ran.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    def forward_operators(mode: bool | str) -> tuple[int, int]:
        block = Block()
        block.use_act_checkpoint = mode
        x = torch.randn(1, 4, 4, 16, requires_grad=True)
        ran.clear()
        with Record():
            block(x).sum().backward()
        products = ("piip_d2::linear", "aten::addmm")
        attention = [name for name in ran if "attention" in name and "backward" not in name]
        return sum(name in products for name in ran), len(attention)

    plain_products, plain_attention = forward_operators(False)
    products, attention = forward_operators("selective")
    again, attention_again = forward_operators("block")
    assert products == plain_products < again
    assert attention == attention_again == 2 * plain_attention


@pytest.mark.parametrize("mode", ["none", "Block", 1, None])
def test_unknown_modes_are_refused(mode: Any) -> None:
    block = Block()
    with pytest.raises(ValueError, match=r"must be False, True or one of .*'selective'\), got "):
        block.use_act_checkpoint = mode
    assert block.use_act_checkpoint is False
