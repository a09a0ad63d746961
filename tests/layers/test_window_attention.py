"""Windowed self-attention against plain attention computed window by window."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.layers import WindowAttention


def plain_attention(module: WindowAttention, x: Tensor, crop: tuple[int, int]) -> Tensor:
    """Softmax attention among all cells of one window (H, W, C), then cropped."""
    height, width, channels = x.shape
    qkv = module.qkv(x).reshape(height * width, 3, module.num_heads, -1)
    query, key, value = qkv.permute(1, 2, 0, 3)
    weights = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(dim=-1)
    output = (weights @ value).transpose(0, 1).reshape(height, width, channels)
    return module.proj(output[: crop[0], : crop[1]])


def test_whole_map() -> None:
    module = WindowAttention(8, 2).double()
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    expected = torch.stack([plain_attention(module, image, (3, 5)) for image in x])
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (7, 2), (2, 2), (9, 8)])
def test_windows_with_filling(height: int, width: int) -> None:
    """Filled cells hold the bias of the projection and take part in the softmax."""
    module = WindowAttention(8, 2, window_size=4).double()
    x = torch.randn(1, height, width, 8, dtype=torch.float64)
    filled = F.pad(x, (0, 0, 0, -width % 4, 0, -height % 4))
    expected = torch.zeros_like(x)
    for top in range(0, height, 4):
        for left in range(0, width, 4):
            window = filled[0, top : top + 4, left : left + 4]
            crop = (min(4, height - top), min(4, width - left))
            expected[0, top : top + 4, left : left + 4] = plain_attention(module, window, crop)
    torch.testing.assert_close(module(x), expected)


def test_paddings_differ_only_where_cells_are_filled() -> None:
    before = WindowAttention(8, 2, window_size=4)
    after = WindowAttention(8, 2, window_size=4, window_padding="after_qkv")
    after.load_state_dict(before.state_dict())
    x = torch.randn(1, 6, 4, 8)
    difference = (before(x) - after(x)).abs().amax(dim=-1)[0]
    assert difference[:4].max() < 1e-6
    assert difference[4:].min() > 1e-6


def test_after_qkv_filled_cells_have_zero_keys_and_values() -> None:
    """One real cell among three filled ones: logit q.k against zeros."""
    module = WindowAttention(2, 1, window_size=2, window_padding="after_qkv").double()
    x = torch.randn(1, 1, 1, 2, dtype=torch.float64)
    query, key, value = module.qkv(x[0, 0, 0]).chunk(3)
    logit = (query @ key) * 2**-0.5
    share = logit.exp() / (logit.exp() + 3)
    torch.testing.assert_close(module(x)[0, 0, 0], module.proj(share * value))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_heads": 3}, r"embed_dim \(8\) must be divisible by num_heads \(3\)"),
        ({"num_heads": 2, "window_size": 0}, "window_size must be at least 1"),
        ({"num_heads": 2, "window_padding": "never"}, "window_padding must be one of"),
    ],
)
def test_messages(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowAttention(8, **kwargs)
