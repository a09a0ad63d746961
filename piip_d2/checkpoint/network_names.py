"""Names that single networks have elsewhere, and what our branches call the same."""

from __future__ import annotations

from piip_d2.checkpoint.renaming import Pair

LAYER_SCALE: tuple[Pair, ...] = (
    ("blocks.*.gamma_1", "blocks.*.ls1.gamma"),
    ("blocks.*.gamma_2", "blocks.*.ls2.gamma"),
)
"""DeiT III and BEiT."""

UNI_PERCEIVER: tuple[Pair, ...] = (
    ("visual_embed.patch_embed.proj", "patch_embed.proj"),
    ("visual_embed.patch_embed.spatial_pos_embed.weight", "pos_embed"),
    ("visual_embed.patch_embed.temporal_pos_embed.weight", "temporal_embed"),
    ("visual_embed.embeddings_norm", "embed_norm"),
    ("layers.*.gamma_1", "blocks.*.ls1.gamma"),
    ("layers.*.gamma_2", "blocks.*.ls2.gamma"),
    ("layers.*.self_attn.in_proj", "blocks.*.attn.qkv"),
    ("layers.*.self_attn.out_proj", "blocks.*.attn.proj"),
    ("layers.*.linear1", "blocks.*.mlp.fc1"),
    ("layers.*.linear2", "blocks.*.mlp.fc2"),
    ("layers.*.norm1", "blocks.*.norm1"),
    ("layers.*.norm2", "blocks.*.norm2"),
)
"""Uni-Perceiver as ViT-Adapter distributes it."""

ORIGINAL_CONVNEXT: tuple[Pair, ...] = (
    ("downsample_layers.0", "stem"),
    ("downsample_layers.*", "stages.*.downsample"),
    ("stages.*.*.dwconv", "stages.*.blocks.*.conv_dw"),
    ("stages.*.*.norm", "stages.*.blocks.*.norm"),
    ("stages.*.*.pwconv1", "stages.*.blocks.*.mlp.fc1"),
    ("stages.*.*.pwconv2", "stages.*.blocks.*.mlp.fc2"),
    ("stages.*.*.gamma", "stages.*.blocks.*.gamma"),
)
"""ConvNeXt's authors."""

HF_CONVNEXT: tuple[Pair, ...] = (
    ("embeddings.patch_embeddings", "stem.0"),
    ("embeddings.layernorm", "stem.1"),
    ("encoder.stages.*.downsampling_layer", "stages.*.downsample"),
    ("encoder.stages.*.layers.*.dwconv", "stages.*.blocks.*.conv_dw"),
    ("encoder.stages.*.layers.*.layernorm", "stages.*.blocks.*.norm"),
    ("encoder.stages.*.layers.*.pwconv1", "stages.*.blocks.*.mlp.fc1"),
    ("encoder.stages.*.layers.*.pwconv2", "stages.*.blocks.*.mlp.fc2"),
    ("encoder.stages.*.layers.*.layer_scale_parameter", "stages.*.blocks.*.gamma"),
)
"""ConvNeXt in Hugging Face's transformers."""
