"""Encoder, query selection and decoder of DINO, https://arxiv.org/abs/2203.03605."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from piip_d2.layers import MSDeformAttn
from piip_d2.modeling.dino.decoder import Decoder
from piip_d2.modeling.dino.denoising import DenoisingQueries
from piip_d2.modeling.dino.encoder import Encoder
from piip_d2.modeling.dino.head import PredictionHead
from piip_d2.modeling.dino.levels import describe_levels
from piip_d2.modeling.dino.position_encoding import SinePositionEncoding
from piip_d2.modeling.dino.query_selection import QuerySelection


@dataclass(frozen=True)
class Predictions:
    """Class logits and boxes, as centre and size relative to the images.

    Args:
        logits: (layers, B, Q, classes).
        boxes: (layers, B, Q, 4).
    """

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class TransformerOutput:
    """What the transformer predicts.

    Args:
        encoder: Of the selected tokens; one layer.
        decoder: Of the queries that look for objects.
        denoising: Of the queries that began as noisy objects, None without such.
    """

    encoder: Predictions
    decoder: Predictions
    denoising: Predictions | None


class DINOTransformer(nn.Module):
    """Turns feature maps into classes and boxes.

    Args:
        position_encoding: Encodes the places of cells.
        encoder: Exchanges features between cells.
        query_selection: Makes queries of them.
        decoder: Refines the queries.
        heads: One per layer of the decoder, and one for the encoder, which comes last.
        num_levels: Feature maps.

    Raises:
        ValueError: If there are not as many heads as needed.
    """

    def __init__(
        self,
        *,
        position_encoding: SinePositionEncoding,
        encoder: Encoder,
        query_selection: QuerySelection,
        decoder: Decoder,
        heads: Sequence[PredictionHead],
        num_levels: int,
    ) -> None:
        super().__init__()
        if len(heads) != len(decoder.layers) + 1:
            raise ValueError(
                "heads must be one for each layer of the decoder and one for the encoder, "
                f"{len(decoder.layers) + 1} in all, got {len(heads)}"
            )
        self.position_encoding = position_encoding
        self.encoder = encoder
        self.query_selection = query_selection
        self.decoder = decoder
        self.level_embeds = nn.Parameter(torch.empty(num_levels, decoder.embed_dim))
        self.num_classes = heads[0].class_embed.out_features
        self.heads = nn.ModuleList(heads)
        self._init_weights()

    def _init_weights(self) -> None:
        for part in (self.encoder, self.decoder, self.query_selection.enc_output):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
            for module in part.modules():
                if isinstance(module, MSDeformAttn):
                    module.reset_parameters()
        nn.init.normal_(self.level_embeds)

    def forward(
        self,
        maps: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
        noisy: DenoisingQueries | None = None,
    ) -> TransformerOutput:
        """Detects the objects of a batch.

        Args:
            maps: One (B, C, H, W) per level, finest first.
            image_sizes: (height, width) of every image without its padding, in pixels.
            padded_size: Height and width that all images were padded to.
            noisy: Queries to be told apart from noise, in training.

        Returns:
            Predictions for all layers.
        """
        shapes = [(x.shape[2], x.shape[3]) for x in maps]
        if len(shapes) != len(self.level_embeds):
            raise ValueError(
                f"this transformer is for {len(self.level_embeds)} feature maps, got {len(shapes)}"
            )
        levels = describe_levels(shapes, image_sizes, padded_size, maps[0].device)
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        tokens = self.encoder(tokens, self._positions(levels.padding_masks), levels)
        selected = self.query_selection(tokens, levels, self.heads[-1])
        encoder = Predictions(selected.logits[None], selected.predicted[None])
        queries, boxes, heads = selected.content, selected.boxes, self.heads[:-1]
        if noisy is None:
            decoder = Predictions(*self.decoder(queries, boxes, tokens, levels, heads))
            return TransformerOutput(encoder, decoder, denoising=None)
        queries = torch.cat([noisy.content, queries], dim=1)
        boxes = torch.cat([noisy.box_logits.sigmoid(), boxes], dim=1)
        blocked = noisy.attention_mask(selected.boxes.shape[1])
        logits, boxes = self.decoder(queries, boxes, tokens, levels, heads, blocked)
        slots = noisy.content.shape[1]
        return TransformerOutput(
            encoder,
            decoder=Predictions(logits[:, :, slots:], boxes[:, :, slots:]),
            denoising=Predictions(logits[:, :, :slots], boxes[:, :, :slots]),
        )

    def _positions(self, padding_masks: Sequence[Tensor]) -> Tensor:
        """(B, S, C): the place of every cell, and which level it is of."""
        positions = [
            self.position_encoding(mask).flatten(1, 2) + level
            for mask, level in zip(padding_masks, self.level_embeds, strict=True)
        ]
        return torch.cat(positions, dim=1)
