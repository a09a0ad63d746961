"""A new detector starts as the released ones did."""

from __future__ import annotations

import math

import pytest
import torch

from piip_d2.modeling.dino import (
    ContrastiveDenoising,
    DINOTransformer,
    build_dino_transformer,
)
from piip_d2.modeling.dino.neck import ProjectedMap


@pytest.fixture(scope="module")
def transformer() -> DINOTransformer:
    torch.manual_seed(0)
    return build_dino_transformer(
        num_classes=11, feedforward_dim=512, num_encoder_layers=1, num_decoder_layers=2
    )


def test_scores_start_low_and_boxes_stay(transformer: DINOTransformer) -> None:
    assert len(transformer.heads) == 3
    for head in transformer.heads:
        assert (head.class_embed.bias + math.log(99.0)).abs().max() < 1e-5
        assert head.class_embed.weight.abs().max() > 0
        boxes = torch.rand(5, 4) * 0.5 + 0.2
        torch.testing.assert_close(head.refine(torch.randn(5, 256), boxes), boxes)


def test_matrices_are_xavier(transformer: DINOTransformer) -> None:
    encoder, decoder = transformer.encoder.layers[0], transformer.decoder.layers[1]
    for weight in (
        encoder.ffn.layers[0].weight,
        encoder.self_attn.value_proj.weight,
        decoder.self_attn.in_proj_weight,
        decoder.self_attn.out_proj.weight,
        decoder.cross_attn.output_proj.weight,
        transformer.decoder.ref_point_head.layers[0].weight,
        transformer.query_selection.enc_output.weight,
        ProjectedMap(64, 256, 32, stride=2).conv.weight[:, :, 0, 0] * 3.0,
    ):
        limit = math.sqrt(6.0 / sum(weight.shape))
        assert 0.98 * limit < weight.abs().max() <= limit


def test_offsets_point_in_all_directions(transformer: DINOTransformer) -> None:
    for attention in (
        transformer.encoder.layers[0].self_attn,
        transformer.decoder.layers[0].cross_attn,
    ):
        assert attention.sampling_offsets.weight.abs().sum() == 0
        assert attention.attention_weights.weight.abs().sum() == 0
        offsets = attention.sampling_offsets.bias.view(8, 4, 4, 2)
        torch.testing.assert_close(offsets[2, 3, 1], torch.tensor([0.0, 2.0]), atol=1e-6, rtol=0)
        assert attention.value_proj.bias.abs().sum() == 0


def test_other_layers_begin_as_pytorch_has_them(transformer: DINOTransformer) -> None:
    head, decoder = transformer.heads[1], transformer.decoder
    for parameter in (
        head.class_embed.weight,
        head.bbox_embed.layers[0].weight,
        head.bbox_embed.layers[1].bias,
        decoder.ref_point_head.layers[1].bias,
    ):
        # Uniform up to a limit of one over the root of the input's channels.
        assert 0.9 / 16 < parameter.abs().max() <= 1 / 16
    assert decoder.layers[0].self_attn.in_proj_bias.abs().sum() == 0
    norm = ProjectedMap(64, 256, 32, stride=1).norm
    assert (norm.weight == 1).all() and (norm.bias == 0).all()


def test_embeddings_are_normal(transformer: DINOTransformer) -> None:
    for weight in (
        transformer.level_embeds,
        transformer.query_selection.query_embed.weight,
        ContrastiveDenoising(80, 256).label_enc.weight,
    ):
        assert weight.std().item() == pytest.approx(1.0, abs=0.06)
