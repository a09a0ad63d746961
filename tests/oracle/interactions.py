"""The exchange between two neighbouring branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracle.named_layers import Shapes, Weights, convolve, layer_norm, layer_shapes, linear

# A direction is called by who tells whom: the second branch has the larger image.
_TO_FIRST, _TO_SECOND = "branch2to1", "branch1to2"


def unit_shapes(name: str, first: int, second: int, options: Mapping[str, Any]) -> Shapes:
    """Shapes of a unit between branches of so many channels."""
    shapes: Shapes = {}
    for direction, query, source in ((_TO_FIRST, first, second), (_TO_SECOND, second, first)):
        if options["interaction_proj"]:
            shapes |= layer_shapes(f"{name}.{direction}_proj", query, source)
            source = query
        shapes |= _injector_shapes(f"{name}.{direction}_injector", query, source, options)
    return shapes


def exchange(
    weights: Weights, name: str, first: Tensor, second: Tensor, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Lets two branches tell each other what they were before this exchange."""
    for_first, for_second = second, first
    if options["interaction_proj"]:
        for_first = linear(weights, f"{name}.{_TO_FIRST}_proj", second)
        for_second = linear(weights, f"{name}.{_TO_SECOND}_proj", first)
    return (
        _inject(weights, f"{name}.{_TO_FIRST}_injector", first, for_first, options),
        _inject(weights, f"{name}.{_TO_SECOND}_injector", second, for_second, options),
    )


def _inject(
    weights: Weights, name: str, query: Tensor, source: Tensor, options: Mapping[str, Any]
) -> Tensor:
    def norm(layer: str, features: Tensor) -> Tensor:
        if options["norm_layer"] == "none":
            return features
        return layer_norm(weights, f"{name}.{layer}", features)

    deforms = options["interact_attn_type"] == "deform"
    attend = _attend_to_points if deforms else _attend_to_all
    change = attend(
        weights, f"{name}.attn", norm("query_norm", query), norm("feat_norm", source), options
    )
    query = query + weights[f"{name}.ca_gamma"] * change
    hidden = linear(weights, f"{name}.ffn.fc1", norm("ffn_norm", query))
    hidden = F.gelu(convolve(weights, f"{name}.ffn.dwconv.dwconv", hidden, padding=1))
    return query + weights[f"{name}.cffn_gamma"] * linear(weights, f"{name}.ffn.fc2", hidden)


def _attend_to_points(
    weights: Weights, name: str, query: Tensor, source: Tensor, options: Mapping[str, Any]
) -> Tensor:
    """Samples the source where the query says: a sum over all cells, most of them with 0."""
    num_heads, num_points = options["deform_num_heads"], options["n_points"]
    value = linear(weights, f"{name}.value_proj", source).unflatten(-1, (num_heads, -1))
    offsets = linear(weights, f"{name}.sampling_offsets", query)
    offsets = offsets.unflatten(-1, (num_heads, num_points, 2))
    logits = linear(weights, f"{name}.attention_weights", query)
    shares = logits.unflatten(-1, (num_heads, num_points)).softmax(dim=-1)
    # Offsets count cells of the source, from where the query's own cell lies in it.
    lines = _seen_from(query.shape[1], source.shape[1])[:, None, None, None] + offsets[..., 1]
    columns = _seen_from(query.shape[2], source.shape[2])[:, None, None] + offsets[..., 0]
    by_line = _interpolation(lines, source.shape[1]) * shares.unsqueeze(-1)
    by_column = _interpolation(columns, source.shape[2])
    by_cell = torch.einsum("bijmpy,bijmpx->bijmyx", by_line, by_column)
    sampled = torch.einsum("bijmyx,byxmd->bijmd", by_cell, value)
    return linear(weights, f"{name}.output_proj", sampled.flatten(-2))


def _attend_to_all(
    weights: Weights, name: str, query: Tensor, source: Tensor, options: Mapping[str, Any]
) -> Tensor:
    def by_head(layer: str, features: Tensor) -> Tensor:
        projected = linear(weights, f"{name}.{layer}", features).flatten(1, 2)
        return projected.unflatten(-1, (options["deform_num_heads"], -1)).transpose(1, 2)

    keys = by_head("wk", source)
    logits = by_head("wq", query) @ keys.transpose(-2, -1) / keys.shape[-1] ** 0.5
    mixed = (logits.softmax(dim=-1) @ by_head("wv", source)).transpose(1, 2)
    return linear(weights, f"{name}.proj", mixed.flatten(2).unflatten(1, query.shape[1:3]))


def _seen_from(num_queries: int, num_cells: int) -> Tensor:
    """Where the centres of a side's cells lie on another side, in cells of that one."""
    centres = (torch.arange(num_queries, dtype=torch.float64) + 0.5) / num_queries
    return centres * num_cells - 0.5


def _interpolation(places: Tensor, num_cells: int) -> Tensor:
    """Shares of all cells of a side in the linear interpolation at places, 0 far outside."""
    cells = torch.arange(num_cells, dtype=places.dtype)
    return (1 - (places.unsqueeze(-1) - cells).abs()).clamp_min(0)


def _injector_shapes(name: str, query: int, source: int, options: Mapping[str, Any]) -> Shapes:
    shapes: Shapes = {f"{name}.ca_gamma": (query,), f"{name}.cffn_gamma": (query,)}
    if options["norm_layer"] != "none":
        shapes |= layer_shapes(f"{name}.query_norm", query)
        shapes |= layer_shapes(f"{name}.feat_norm", source)
        shapes |= layer_shapes(f"{name}.ffn_norm", query)
    if options["interact_attn_type"] == "deform":
        num_samples = options["deform_num_heads"] * options["n_points"]
        value = int(query * options["deform_ratio"])
        shapes |= layer_shapes(f"{name}.attn.sampling_offsets", 2 * num_samples, query)
        shapes |= layer_shapes(f"{name}.attn.attention_weights", num_samples, query)
        shapes |= layer_shapes(f"{name}.attn.value_proj", value, source)
        shapes |= layer_shapes(f"{name}.attn.output_proj", query, value)
    else:
        for layer, width in (("wq", query), ("wk", source), ("wv", source)):
            shapes |= layer_shapes(f"{name}.attn.{layer}", query, width, with_bias=False)
        shapes |= layer_shapes(f"{name}.attn.proj", query, query)
    hidden = int(query * options["cffn_ratio"])
    shapes |= layer_shapes(f"{name}.ffn.fc1", hidden, query)
    shapes |= layer_shapes(f"{name}.ffn.dwconv.dwconv", hidden, 1, 3, 3)
    return shapes | layer_shapes(f"{name}.ffn.fc2", query, hidden)
