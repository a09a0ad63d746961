"""Mixed query selection, https://arxiv.org/abs/2203.03605, section 3.4."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from piip_d2.modeling.dino.head import PredictionHead
from piip_d2.modeling.dino.levels import FeatureLevels

# Side of the boxes that the cells of the finest level propose, relative to the image; it doubles
# from level to level.
_FINEST_SIDE = 0.05
# Proposals whose centre or size comes closer than this to the ends of [0, 1] are not used.
_MARGIN = 0.01


class SelectedQueries(NamedTuple):
    """Where the decoder starts, and what the encoder's loss is computed from.

    Args:
        content: (B, Q, C), learned, the same for all images.
        boxes: (B, Q, 4) as centre and size relative to the images, without gradient.
        logits: (B, Q, classes) of the selected tokens.
        predicted: (B, Q, 4), the same boxes with gradient.
    """

    content: Tensor
    boxes: Tensor
    logits: Tensor
    predicted: Tensor


class QuerySelection(nn.Module):
    """Starts queries at the boxes of the most promising tokens, with learned contents.

    A learned content belongs to a rank: the best token gets the first. Maps with fewer tokens than
    ``num_queries`` give as many queries as they have tokens.

    Args:
        embed_dim: Channels of tokens and queries.
        num_queries: How many tokens are selected, 1 or more.

    Raises:
        ValueError: If none are.
    """

    def __init__(self, embed_dim: int, num_queries: int) -> None:
        super().__init__()
        if num_queries < 1:
            raise ValueError(
                f"num_queries must be 1 or more, got {num_queries}; 900 is usual, and an image "
                "should have fewer objects than that"
            )
        self.enc_output = nn.Linear(embed_dim, embed_dim)
        self.enc_output_norm = nn.LayerNorm(embed_dim)
        self.query_embed = nn.Embedding(num_queries, embed_dim)

    def forward(
        self, tokens: Tensor, levels: FeatureLevels, head: PredictionHead
    ) -> SelectedQueries:
        """Selects queries.

        Args:
            tokens: (B, S, C), the output of the encoder.
            levels: Sizes and padding of the maps.
            head: Scores tokens and moves the boxes that they propose.

        Returns:
            The queries, the most promising first.
        """
        proposals, is_usable = propose_boxes(levels)
        # Where nothing is proposed, tokens become equal rather than absent: if the score that
        # they then share is high, some of them are selected, with a box as large as the image.
        tokens = tokens.masked_fill(~is_usable[..., None], 0.0)
        tokens = self.enc_output_norm(self.enc_output(tokens))
        logits = head.classify(tokens)
        count = min(self.query_embed.num_embeddings, tokens.shape[1])
        chosen = logits.detach().amax(dim=-1).topk(count, dim=1).indices
        proposals = proposals.masked_fill(~is_usable[..., None], torch.inf)
        steps = head.step(_take(tokens, chosen))
        predicted = torch.sigmoid(steps + _take(proposals, chosen))
        content = self.query_embed.weight[:count].expand(tokens.shape[0], -1, -1)
        return SelectedQueries(content, predicted.detach(), _take(logits, chosen), predicted)


def propose_boxes(levels: FeatureLevels) -> tuple[Tensor, Tensor]:
    """Proposes a square box around every cell.

    Args:
        levels: Sizes and padding of the maps.

    Returns:
        Logits (B, S, 4) of centre and size relative to the images, and (B, S), False where a box
        is padding or too close to a border.
    """
    boxes = torch.cat(
        [
            torch.cat([centers, torch.full_like(centers, _FINEST_SIDE * 2**level)], dim=-1)
            for level, centers in enumerate(levels.centers())
        ],
        dim=1,
    )
    is_usable = ((boxes > _MARGIN) & (boxes < 1.0 - _MARGIN)).all(dim=-1) & ~levels.padding
    return torch.logit(boxes), is_usable


def _take(x: Tensor, chosen: Tensor) -> Tensor:
    """The rows (B, Q, C) of (B, S, C) at the places (B, Q)."""
    return x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))
