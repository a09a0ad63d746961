"""Builds the transformer of DINO from sizes."""

from __future__ import annotations

from torch import nn

from piip_d2.layers import MSDeformAttn
from piip_d2.modeling.dino.decoder import Decoder, DecoderLayer
from piip_d2.modeling.dino.encoder import Encoder, EncoderLayer
from piip_d2.modeling.dino.head import PredictionHead
from piip_d2.modeling.dino.mlp import MLP
from piip_d2.modeling.dino.position_encoding import SinePositionEncoding
from piip_d2.modeling.dino.query_selection import QuerySelection
from piip_d2.modeling.dino.transformer import DINOTransformer


def build_dino_transformer(
    *,
    num_classes: int,
    num_levels: int = 4,
    embed_dim: int = 256,
    num_heads: int = 8,
    num_points: int = 4,
    feedforward_dim: int = 2048,
    num_encoder_layers: int = 6,
    num_decoder_layers: int = 6,
    num_queries: int = 900,
    position_temperature: float = 20.0,
    position_offset: float = 0.0,
    use_encoder_act_checkpoint: bool | str = False,
    use_decoder_act_checkpoint: bool | str = False,
) -> DINOTransformer:
    """Builds the transformer from sizes; what configuration files call.

    Args:
        num_classes: Kinds of objects.
        num_levels: Feature maps.
        embed_dim: Channels of tokens and queries.
        num_heads: Heads of every attention.
        num_points: Sampling points per head and level.
        feedforward_dim: Channels inside the MLPs of the layers.
        num_encoder_layers: Layers of the encoder, 1 or more.
        num_decoder_layers: Layers of the decoder, 1 or more.
        num_queries: Objects that are looked for in an image, 1 or more.
        position_temperature: See :class:`SinePositionEncoding`. 20 for the networks released with
            PIIP and DINO, 10000 for detrex.
        position_offset: See there. 0, and -0.5 for detrex.
        use_encoder_act_checkpoint: What the encoder recomputes in the backward pass, see
            :class:`Encoder`. Its activations are most of what DINO keeps, as there are tens of
            thousands of tokens.
        use_decoder_act_checkpoint: The same for the decoder, which has a thousand queries.

    Returns:
        The transformer with random weights.

    Raises:
        ValueError: If a number of layers or queries is too small.
    """
    if min(num_encoder_layers, num_decoder_layers) < 1:
        raise ValueError(
            "num_encoder_layers and num_decoder_layers must be 1 or more, got "
            f"{num_encoder_layers} and {num_decoder_layers}; 6 is usual for both"
        )
    widths = {"embed_dim": embed_dim, "num_heads": num_heads, "feedforward_dim": feedforward_dim}
    samples = {"num_levels": num_levels, "num_points": num_points}
    encoder_layers = [_encoder_layer(**widths, **samples) for _ in range(num_encoder_layers)]
    decoder_layers = [_decoder_layer(**widths, **samples) for _ in range(num_decoder_layers)]
    ref_point_head = MLP(2 * embed_dim, embed_dim, embed_dim)
    return DINOTransformer(
        position_encoding=SinePositionEncoding(embed_dim, position_temperature, position_offset),
        encoder=Encoder(encoder_layers, use_encoder_act_checkpoint),
        query_selection=QuerySelection(embed_dim, num_queries),
        decoder=Decoder(decoder_layers, ref_point_head, use_decoder_act_checkpoint),
        heads=[PredictionHead(embed_dim, num_classes) for _ in range(num_decoder_layers + 1)],
        num_levels=num_levels,
    )


def _encoder_layer(
    *, embed_dim: int, num_heads: int, feedforward_dim: int, **samples: int
) -> EncoderLayer:
    return EncoderLayer(
        embed_dim,
        MSDeformAttn(embed_dim, num_heads=num_heads, **samples),
        MLP(embed_dim, feedforward_dim, embed_dim),
    )


def _decoder_layer(
    *, embed_dim: int, num_heads: int, feedforward_dim: int, **samples: int
) -> DecoderLayer:
    return DecoderLayer(
        nn.MultiheadAttention(embed_dim, num_heads, batch_first=True),
        MSDeformAttn(embed_dim, num_heads=num_heads, **samples),
        MLP(embed_dim, feedforward_dim, embed_dim),
    )
