"""What the compiled operators do under ``torch.vmap`` and ``torch.autocast``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from piip_d2.ops.reference import compute_dtype, unify_dtypes

# Registrations last as long as the object that they were made through.
_LIBRARY = torch.library.Library("piip_d2", "FRAGMENT")


def register_transforms() -> None:
    """Registers the rules for mapped dimensions and automatic precision."""
    for name in (
        "ms_deform_attn",
        "ms_deform_attn_backward",
        "ms_deform_attn_fused",
        "ms_deform_attn_fused_backward",
    ):
        operator = getattr(torch.ops.piip_d2, name).default
        torch.library.register_vmap(f"piip_d2::{name}", _map_over_batch(operator))
    for device_type in ("cpu", "cuda"):
        key = f"Autocast{device_type.upper()}"
        _LIBRARY.impl("ms_deform_attn", _autocast_plain(device_type), key)
        _LIBRARY.impl("ms_deform_attn_fused", _autocast_fused(device_type), key)


def _map_over_batch(operator: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Joins the mapped dimension with the batch, with which all tensors of the operators begin."""

    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        joined = list(args)
        batch = None
        for index, (argument, dim) in enumerate(zip(args, in_dims, strict=True)):
            if isinstance(argument, Tensor):
                tensor = argument[None] if dim is None else argument.movedim(dim, 0)
                # The first tensor has the batch of all, where reference points may have 1.
                batch = tensor.shape[1] if batch is None else batch
                joined[index] = tensor.expand(size, batch, *tensor.shape[2:]).flatten(0, 1)
        outputs = operator(*joined)
        if isinstance(outputs, Tensor):
            return outputs.unflatten(0, (size, batch)), 0
        # Gradients that nobody asked for are empty and have no batch.
        wanted = [output.dim() > 1 for output in outputs]
        split = tuple(
            output.unflatten(0, (size, batch)) if want else output
            for output, want in zip(outputs, wanted, strict=True)
        )
        return split, tuple(0 if want else None for want in wanted)

    return rule


def _autocast_plain(device_type: str) -> Callable[..., Tensor]:
    """The value keeps its type, locations and weights get that of the arithmetic."""

    def kernel(
        value: Tensor, sizes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
    ) -> Tensor:
        dtype = compute_dtype(value.dtype)
        with torch.autocast(device_type, enabled=False):
            return torch.ops.piip_d2.ms_deform_attn.default(
                value, sizes, sampling_locations.to(dtype), attention_weights.to(dtype)
            )

    return kernel


def _autocast_fused(device_type: str) -> Callable[..., Tensor]:
    """The value keeps its type, offsets and logits get a common one."""

    def kernel(
        value: Tensor,
        sizes: Sequence[int],
        sampling_offsets: Tensor,
        attention_logits: Tensor,
        reference_points: Tensor | None,
        query_grid: Sequence[int],
    ) -> Tensor:
        if reference_points is not None:
            reference_points = reference_points.to(compute_dtype(value.dtype))
        offsets, logits = unify_dtypes(value, sampling_offsets, attention_logits)
        with torch.autocast(device_type, enabled=False):
            return torch.ops.piip_d2.ms_deform_attn_fused.default(
                value, sizes, offsets, logits, reference_points, query_grid
            )

    return kernel
