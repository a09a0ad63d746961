"""The deformable decoder with boxes refined from layer to layer, https://arxiv.org/abs/2203.03605.

"Look forward twice", section 3.5 there: the prediction of a layer is computed from the box of the
layer before, whose gradient is kept, while that layer's queries look around a copy without it. So
the loss of a layer also teaches the box head of the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from piip_d2.layers import MSDeformAttn
from piip_d2.layers.activation_checkpoint import ActivationCheckpointing
from piip_d2.modeling.dino.head import PredictionHead
from piip_d2.modeling.dino.levels import FeatureLevels
from piip_d2.modeling.dino.mlp import MLP
from piip_d2.modeling.dino.position_encoding import encode_boxes


class Memory(NamedTuple):
    """What decoder layers look at.

    Args:
        tokens: (B, S, C), the output of the encoder.
        padding: (B, S), True where a token is padding.
        shapes: (H, W) of every level.
    """

    tokens: Tensor
    padding: Tensor
    shapes: list[tuple[int, int]]


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the maps around their boxes; then an MLP.

    Args:
        self_attn: The attention between queries, batch first.
        cross_attn: The attention to the maps.
        ffn: The MLP.
    """

    def __init__(
        self, self_attn: nn.MultiheadAttention, cross_attn: MSDeformAttn, ffn: MLP
    ) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.self_attn_norm = nn.LayerNorm(self_attn.embed_dim)
        self.cross_attn = cross_attn
        self.cross_attn_norm = nn.LayerNorm(self_attn.embed_dim)
        self.ffn = ffn
        self.ffn_norm = nn.LayerNorm(self_attn.embed_dim)

    def forward(
        self,
        queries: Tensor,
        positions: Tensor,
        boxes: Tensor,
        memory: Memory,
        blocked: Tensor | None,
    ) -> Tensor:
        """Maps queries (B, Q, C) to (B, Q, C).

        Args:
            queries: What is known of the objects.
            positions: (B, Q, C), the encoded boxes.
            boxes: (B, Q, L, 4), relative to the padded maps.
            memory: The maps.
            blocked: (Q, Q), True where the query of a row must not see that of a column.

        Returns:
            (B, Q, C).
        """
        placed = queries + positions
        attended, _ = self.self_attn(placed, placed, queries, attn_mask=blocked, need_weights=False)
        queries = self.self_attn_norm(queries + attended)
        attended = self.cross_attn(
            queries + positions, boxes, memory.tokens, memory.shapes, memory.padding
        )
        queries = self.cross_attn_norm(queries + attended)
        return self.ffn_norm(queries + self.ffn(queries))


class Decoder(ActivationCheckpointing):
    """Turns queries and first boxes into classes and boxes, after every layer.

    Args:
        layers: One or more.
        ref_point_head: From an encoded box of ``2 * embed_dim`` channels to ``embed_dim``.
        use_act_checkpoint: What is recomputed of each layer in the backward pass, see
            :class:`~piip_d2.layers.activation_checkpoint.ActivationCheckpointing`.
    """

    def __init__(
        self,
        layers: Iterable[DecoderLayer],
        ref_point_head: nn.Module,
        use_act_checkpoint: bool | str = False,
    ) -> None:
        super().__init__()
        layers = list(layers)
        self.embed_dim: int = layers[0].self_attn.embed_dim
        self.layers = nn.ModuleList(layers)
        self.ref_point_head = ref_point_head
        self.norm = nn.LayerNorm(self.embed_dim)
        self.use_act_checkpoint = use_act_checkpoint

    def forward(
        self,
        queries: Tensor,
        boxes: Tensor,
        tokens: Tensor,
        levels: FeatureLevels,
        heads: Sequence[PredictionHead],
        blocked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Refines queries and boxes.

        Args:
            queries: (B, Q, C).
            boxes: (B, Q, 4) as centre and size relative to the images, without gradient.
            tokens: (B, S, C), the output of the encoder.
            levels: Sizes and padding of the maps.
            heads: One per layer.
            blocked: See :class:`DecoderLayer`.

        Returns:
            Class logits (layers, B, Q, classes) and boxes (layers, B, Q, 4).
        """
        memory = Memory(tokens, levels.padding, levels.shapes)
        ratios = levels.valid_ratios.repeat(1, 1, 2)[:, None]
        logits, predicted = [], []
        before = boxes
        for layer, head in zip(self.layers, heads, strict=True):
            queries = self._run(layer, queries, boxes[:, :, None] * ratios, memory, blocked)
            normed = self.norm(queries)
            logits.append(head.classify(normed))
            predicted.append(head.refine(normed, before))
            if len(predicted) < len(self.layers):
                before = head.refine(queries, boxes)
                boxes = before.detach()
        return torch.stack(logits), torch.stack(predicted)

    def _run(
        self,
        layer: nn.Module,
        queries: Tensor,
        boxes: Tensor,
        memory: Memory,
        blocked: Tensor | None,
    ) -> Tensor:
        positions = self.ref_point_head(encode_boxes(boxes[:, :, 0], self.embed_dim))
        refined: Tensor = self.run_checkpointed(layer, queries, positions, boxes, memory, blocked)
        return refined
