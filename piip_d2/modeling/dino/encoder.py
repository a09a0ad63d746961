"""The deformable encoder, Deformable DETR (https://arxiv.org/abs/2010.04159)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from piip_d2.layers import MSDeformAttn
from piip_d2.layers.activation_checkpoint import ActivationCheckpointing
from piip_d2.modeling.dino.levels import FeatureLevels
from piip_d2.modeling.dino.mlp import MLP


class EncoderLayer(nn.Module):
    """Every token samples all maps around its own place; then an MLP. Norms come last.

    Args:
        embed_dim: Channels of a token.
        self_attn: The attention.
        ffn: The MLP.
    """

    def __init__(self, embed_dim: int, self_attn: MSDeformAttn, ffn: MLP) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.self_attn_norm = nn.LayerNorm(embed_dim)
        self.ffn = ffn
        self.ffn_norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        reference_points: Tensor,
        levels: FeatureLevels,
        padding: Tensor,
    ) -> Tensor:
        """Maps tokens (B, S, C) to (B, S, C).

        Args:
            tokens: All maps, joined.
            positions: (B, S, C), added where tokens ask, not where they answer.
            reference_points: (B, S, L, 2).
            levels: Sizes of the maps.
            padding: (B, S).

        Returns:
            (B, S, C).
        """
        attended = self.self_attn(
            tokens + positions, reference_points, tokens, levels.shapes, padding
        )
        tokens = self.self_attn_norm(tokens + attended)
        return self.ffn_norm(tokens + self.ffn(tokens))


class Encoder(ActivationCheckpointing):
    """Exchanges features between the cells of all maps.

    Args:
        layers: One or more.
        use_act_checkpoint: What is recomputed of each layer in the backward pass, see
            :class:`~piip_d2.layers.activation_checkpoint.ActivationCheckpointing`.
    """

    def __init__(
        self, layers: Iterable[EncoderLayer], use_act_checkpoint: bool | str = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.use_act_checkpoint = use_act_checkpoint

    def forward(self, tokens: Tensor, positions: Tensor, levels: FeatureLevels) -> Tensor:
        """Maps tokens and their positions (B, S, C) to (B, S, C)."""
        # A cell has the same place in its image on all levels; places count over padded maps.
        points = torch.cat(levels.centers(), dim=1)[:, :, None] * levels.valid_ratios[:, None]
        padding = levels.padding
        for layer in self.layers:
            tokens = self.run_checkpointed(layer, tokens, positions, points, levels, padding)
        return tokens
