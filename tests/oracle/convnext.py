"""ConvNeXt as a branch: a list of blocks in which each down-sampling layer counts as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from tests.oracle.named_layers import Shapes, Weights, convolve, layer_norm, layer_shapes, linear


class ConvNeXt:
    """A ConvNeXt under the names of Hugging Face's class."""

    def __init__(self, sizes: Mapping[str, Sequence[int]], prefix: str) -> None:
        self.prefix = f"{prefix}convnext_model."
        self.widths = sizes["hidden_sizes"]
        # Each block by the number of its stage and the name of its layer.
        self.blocks: list[tuple[int, str]] = []
        for stage, depth in enumerate(sizes["depths"]):
            if stage > 0:
                self.blocks.append((stage, "downsampling_layer"))
            self.blocks += [(stage, f"layers.{layer}") for layer in range(depth)]
        self.num_blocks = len(self.blocks)

    def width_after(self, block: int) -> int:
        stage, _ = self.blocks[block]
        return self.widths[stage]

    def ends_stage(self, block: int) -> bool:
        stages = [stage for stage, _ in self.blocks]
        return block + 1 == self.num_blocks or stages[block + 1] > stages[block]

    def shapes(self) -> Shapes:
        first, *_, last = self.widths
        shapes = layer_shapes(f"{self.prefix}embeddings.patch_embeddings", first, 3, 4, 4)
        shapes |= layer_shapes(f"{self.prefix}embeddings.layernorm", first)
        for block in range(self.num_blocks):
            shapes |= self._block_shapes(block)
        # Stored with the others, though no map comes from behind it.
        return shapes | layer_shapes(f"{self.prefix}layernorm", last)

    def embed(self, weights: Weights, images: Tensor) -> Tensor:
        name = f"{self.prefix}embeddings."
        patches = convolve(weights, f"{name}patch_embeddings", images, stride=4)
        return layer_norm(weights, f"{name}layernorm", patches)

    def run_block(self, weights: Weights, features: Tensor, block: int) -> Tensor:
        name = self._name_of(block)
        if self._is_downsampling(block):
            normed = layer_norm(weights, f"{name}.0", features)
            return convolve(weights, f"{name}.1", normed, stride=2)
        change = convolve(weights, f"{name}.dwconv", features, padding=3)
        change = layer_norm(weights, f"{name}.layernorm", change)
        change = F.gelu(linear(weights, f"{name}.pwconv1", change))
        change = linear(weights, f"{name}.pwconv2", change)
        return features + weights[f"{name}.layer_scale_parameter"] * change

    def _block_shapes(self, block: int) -> Shapes:
        name, width = self._name_of(block), self.width_after(block)
        if self._is_downsampling(block):
            before = self.width_after(block - 1)
            return layer_shapes(f"{name}.0", before) | layer_shapes(
                f"{name}.1", width, before, 2, 2
            )
        shapes: Shapes = {f"{name}.layer_scale_parameter": (width,)}
        shapes |= layer_shapes(f"{name}.dwconv", width, 1, 7, 7)
        shapes |= layer_shapes(f"{name}.layernorm", width)
        shapes |= layer_shapes(f"{name}.pwconv1", 4 * width, width)
        return shapes | layer_shapes(f"{name}.pwconv2", width, 4 * width)

    def _is_downsampling(self, block: int) -> bool:
        return self.blocks[block][1] == "downsampling_layer"

    def _name_of(self, block: int) -> str:
        stage, layer = self.blocks[block]
        return f"{self.prefix}encoder.stages.{stage}.{layer}"
