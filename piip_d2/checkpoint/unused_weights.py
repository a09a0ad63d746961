"""What the reference's networks store without using it, for files in their form."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from piip_d2.checkpoint.reference_config import side_of

_BIAS_TABLE = re.compile(r"(.*\.attn\.)relative_position_bias_table$")
_CONVNEXT_STAGE = re.compile(
    r"(.*convnext_model\.)encoder\.stages\.(\d+)\.layers\.0\.dwconv\.bias$"
)


def fill_unused(
    state_dict: Mapping[str, Tensor], *, has_unused_upsampler: bool
) -> dict[str, Tensor]:
    """Adds the tensors that the reference stores without using them.

    Args:
        state_dict: The used tensors, under the reference's names.
        has_unused_upsampler: Whether there is a stride-4 up-sampler beside the stride-8 one, which
            is not used.

    Returns:
        Those and the unused ones, on the same devices.
    """
    unused: dict[str, Tensor] = {}
    last_norms: dict[str, tuple[int, Tensor]] = {}
    indexes: dict[tuple[int, torch.device], Tensor] = {}
    for name, tensor in state_dict.items():
        table = _BIAS_TABLE.match(name)
        if table:
            window, device = (side_of(tensor.shape[0]) + 1) // 2, tensor.device
            # One tensor for all blocks, which a file then stores once.
            if (window, device) not in indexes:
                indexes[window, device] = _relative_position_index(window, device)
            unused[f"{table[1]}relative_position_index"] = indexes[window, device]
        block = _CONVNEXT_STAGE.match(name)
        if block:
            stage = int(block[2])
            if stage >= last_norms.get(block[1], (0, tensor))[0]:
                last_norms[block[1]] = (stage, tensor)
    for prefix, (_, bias) in last_norms.items():
        unused[f"{prefix}layernorm.weight"] = torch.ones_like(bias)
        unused[f"{prefix}layernorm.bias"] = torch.zeros_like(bias)
    if has_unused_upsampler:
        unused |= _upsampler(state_dict["fpn2.0.weight"], state_dict["fpn2.0.bias"])
    return {**state_dict, **unused}


def _relative_position_index(window: int, device: torch.device) -> Tensor:
    """Row of the bias table for every query (rows) and key (columns) of a window."""
    cells = torch.arange(window, device=device)
    ways = cells[:, None] - cells + window - 1
    rows = ways[:, None, :, None] * (2 * window - 1) + ways[None, :, None, :]
    return rows.reshape(window**2, window**2)


def _upsampler(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Two transposed convolutions like the given one, with a group norm between them."""
    shapes = {"0.weight": weight, "0.bias": bias, "1.weight": bias, "1.bias": bias}
    shapes |= {"3.weight": weight, "3.bias": bias}
    return {f"fpn1.{name}": torch.zeros_like(like) for name, like in shapes.items()}
