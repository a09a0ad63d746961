"""Windowed self-attention against plain attention computed window by window."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.layers import RMSNorm, WindowAttention


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


@pytest.mark.parametrize("window_size", [None, 3])
def test_no_images(window_size: int | None) -> None:
    attention = WindowAttention(8, 2, window_size=window_size)
    assert attention(torch.zeros(0, 4, 5, 8)).shape == (0, 4, 5, 8)


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


@pytest.mark.parametrize("norm", [nn.LayerNorm, RMSNorm])
@pytest.mark.parametrize("window_size", [None, 2])
def test_qk_norm(norm: Callable[..., nn.Module], window_size: int | None) -> None:
    """Query and key of all heads together are normalised, then split into heads."""
    qk_norm = partial(norm, eps=1e-6)
    module = WindowAttention(8, 2, window_size=window_size, qk_norm=qk_norm).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 2, 2, 8, dtype=torch.float64)
    query, key, value = module.qkv(x.reshape(4, 8)).chunk(3, dim=1)
    normed = []
    for features, module_norm in ((query, module.q_norm), (key, module.k_norm)):
        centred = features - features.mean(1, keepdim=True) if norm is nn.LayerNorm else features
        scale = (centred.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        normed.append(centred * scale * module_norm.weight + getattr(module_norm, "bias", 0))
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        weights = (normed[0][:, part] @ normed[1][:, part].T / 2).softmax(dim=1)
        heads.append(weights @ value[:, part])
    expected = module.proj(torch.cat(heads, dim=1))
    torch.testing.assert_close(module(x).reshape(4, 8), expected)


def test_qk_norm_under_autocast() -> None:
    """Norms give 32 bits there, which must not meet a value of 16 bits in the attention."""
    module = WindowAttention(64, 2, window_size=4, qk_norm=partial(RMSNorm, eps=1e-6))
    x = torch.randn(1, 6, 5, 64)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), module(x), atol=0.03, rtol=0.03)


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
