"""Attention of queries to all keys, on the fastest path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.ops.autocast import without_autocast

# Beyond this many keys, the matrix of weights costs more memory than it saves time.
_MAX_KEYS = 1024

# Changed by without_matrix_of_weights alone.
_may_use_matrix = True


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention with logits divided by the root of a head's channels.

    PyTorch's function, but for few keys in bfloat16 on a CPU, where its flash attention takes up to
    three times as long as two matrix products with a softmax between them.

    Args:
        query: (B, M, Q, D).
        key: (B, M, S, D).
        value: (B, M, S, D).
        bias: What is added to the logits, of a shape that spreads to (B, M, Q, S); None for none.

    Returns:
        (B, M, Q, D).
    """
    bias = None if bias is None else bias.to(query.dtype)
    is_slow_in_pytorch = query.device.type == "cpu" and query.dtype == torch.bfloat16
    # An exported program is to hold for any number of keys.
    may_use_matrix = _may_use_matrix and not torch.compiler.is_exporting()
    if is_slow_in_pytorch and may_use_matrix and key.shape[2] <= _MAX_KEYS:
        return _with_matrix_of_weights(query, key, value, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


@contextmanager
def without_matrix_of_weights() -> Iterator[None]:
    """Lets :func:`attention` on a CPU keep what it keeps on a GPU, for a block.

    For counts of memory that are made on a CPU and hold for a GPU. All threads are concerned, as a
    backward pass that recomputes may run in another.

    Yields:
        Nothing.
    """
    global _may_use_matrix
    before, _may_use_matrix = _may_use_matrix, False
    try:
        yield
    finally:
        _may_use_matrix = before


def _with_matrix_of_weights(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
) -> Tensor:
    batch_and_heads = query.shape[:2]
    query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
    # All is in 16 bits already; autocast would take the softmax to 32.
    with without_autocast(query.device):
        logits = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
        if bias is not None:
            logits = (logits.unflatten(0, batch_and_heads) + bias).flatten(0, 1)
        output = torch.bmm(logits.softmax(-1), value)
    return output.unflatten(0, batch_and_heads)
