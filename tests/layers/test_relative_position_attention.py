"""Attention with relative positions against Swin's in timm and against plain loops."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import WindowAttention as SwinAttention
from torch import Tensor, nn

from piip_d2.layers import RelativePositionAttention


def make_attention(window_size: int = 3, **options: Any) -> RelativePositionAttention:
    module = RelativePositionAttention(8, 2, window_size=window_size, **options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def bias_by_loops(table: Tensor, side: int) -> Tensor:
    """(M, N, N): every query and every key of a window, one after the other."""
    cells = list(itertools.product(range(side), range(side)))
    bias = torch.zeros(table.shape[1], len(cells), len(cells), dtype=table.dtype)
    for query, (query_y, query_x) in enumerate(cells):
        for key, (key_y, key_x) in enumerate(cells):
            down, right = query_y - key_y + side - 1, query_x - key_x + side - 1
            bias[:, query, key] = table[down * (2 * side - 1) + right]
    return bias


def attend_by_loops(module: RelativePositionAttention, window: Tensor) -> Tensor:
    """(N, C) to (N, C) of one filled window, head by head."""
    width = window.shape[1] // module.num_heads
    query, key, value = (window @ module.qkv.weight.T).chunk(3, dim=1)
    if module.q_bias is not None:
        query, value = query + module.q_bias, value + module.v_bias
    bias = bias_by_loops(module.relative_position_bias_table, module.window_size)
    heads = []
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        logits = (query[:, part] * width**-0.5) @ key[:, part].T + bias[head]
        heads.append(logits.softmax(dim=1) @ value[:, part])
    return module.proj(torch.cat(heads, dim=1))


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(3, 3), (6, 3), (4, 5), (2, 1)])
def test_windows_with_filling(height: int, width: int, qkv_bias: bool) -> None:
    module = make_attention(qkv_bias=qkv_bias)
    x = torch.randn(2, height, width, 8, dtype=torch.float64)
    filled = F.pad(x, (0, 0, 0, -width % 3, 0, -height % 3))
    expected = torch.zeros_like(filled)
    for image, top, left in itertools.product(
        range(2), range(0, filled.shape[1], 3), range(0, filled.shape[2], 3)
    ):
        rows, columns = slice(top, top + 3), slice(left, left + 3)
        window = filled[image, rows, columns].reshape(9, 8)
        expected[image, rows, columns] = attend_by_loops(module, window).reshape(3, 3, 8)
    torch.testing.assert_close(module(x), expected[:, :height, :width])


def test_equals_swin_of_timm() -> None:
    module = make_attention(4)
    oracle = SwinAttention(8, 2, window_size=(4, 4)).double()
    assert module.q_bias is not None and module.v_bias is not None
    weights = {
        "relative_position_bias_table": module.relative_position_bias_table,
        "qkv.weight": module.qkv.weight,
        "qkv.bias": torch.cat([module.q_bias, torch.zeros(8), module.v_bias]),
        "proj.weight": module.proj.weight,
        "proj.bias": module.proj.bias,
    }
    assert not oracle.load_state_dict(weights, strict=False).unexpected_keys
    x = torch.randn(2, 4, 4, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x).flatten(1, 2), oracle(x.flatten(1, 2)))


def test_global_attention_is_that_of_one_window() -> None:
    windowed = make_attention()
    whole = make_attention(use_windows=False)
    whole.load_state_dict(windowed.state_dict())
    x = torch.randn(2, 3, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(whole(x), windowed(x))


@pytest.mark.parametrize("shape", [(3, 4), (1, 9)])
def test_global_attention_knows_no_other_map(shape: tuple[int, int]) -> None:
    module = make_attention(use_windows=False)
    with pytest.raises(ValueError, match=rf"of a 3 x 3 map was given a map of {shape[0]} x"):
        module(torch.zeros(1, *shape, 8, dtype=torch.float64))


def test_gradients() -> None:
    module = make_attention(2)
    x = torch.randn(1, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]
    assert names[:3] == ["q_bias", "v_bias", "relative_position_bias_table"]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(run, (x, *module.parameters()))


@pytest.mark.parametrize("use_autocast", [True, False])
def test_16_bit(use_autocast: bool) -> None:
    module = RelativePositionAttention(64, 4, window_size=4)
    nn.init.normal_(module.relative_position_bias_table)
    x = torch.randn(1, 6, 9, 64)
    exact = module(x)
    if use_autocast:
        with torch.autocast("cpu", torch.bfloat16):
            output = module(x)
    else:
        output = module.bfloat16()(x.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, atol=0.03, rtol=0.03)


def test_compiles_in_one_piece() -> None:
    module = make_attention()
    x = torch.randn(2, 4, 5, 8, dtype=torch.float64)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"embed_dim \(8\) must be divisible by num_heads \(3\)"):
        RelativePositionAttention(8, 3, window_size=2)
    with pytest.raises(ValueError, match="window_size must be at least 1"):
        RelativePositionAttention(8, 2, window_size=0)
