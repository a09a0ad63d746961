"""Networks of all kinds that are small enough to look into within milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from piip_d2.modeling.backbone import (
    Branch,
    ConvNeXtBranch,
    CrossBranchAttention,
    PIIPNetwork,
    ViTBranch,
    build_network,
)

DIM = 32


def vit(size: int, windows: int | Sequence[int | None] | None = None) -> Branch:
    """A ViT of two blocks and cells of 8 pixels."""
    options = {"embed_dim": DIM, "depth": 2, "num_heads": 2, "patch_size": 8}
    return ViTBranch(img_size=size, pretrain_img_size=64, window_size=windows, **options)


def convnext(size: int) -> Branch:
    """A ConvNeXt of two stages, with cells of 4 and then 8 pixels."""
    return ConvNeXtBranch(img_size=size, depths=[1, 1], dims=[32, 64])


def network(branches: Sequence[Branch], seed: int = 0, **options: object) -> PIIPNetwork:
    """A network whose interactions do something, as they would after training."""
    torch.manual_seed(seed)
    settings = {"num_interactions": 2, "num_heads": 4, **options}
    built = build_network(branches, **settings).eval()
    for module in built.modules():
        if isinstance(module, CrossBranchAttention):
            nn.init.normal_(module.attn_gamma, std=0.5)
            nn.init.normal_(module.ffn_gamma, std=0.5)
            for parameter in module.attn.parameters():
                nn.init.normal_(parameter, std=0.3)
    return built


NETWORKS: dict[str, Callable[[], PIIPNetwork]] = {
    "two ViTs": lambda: network([vit(64, windows=3), vit(32)]),
    "four ViTs": lambda: network([vit(128), vit(96, [2, None]), vit(64), vit(32)]),
    "ConvNeXt and ViT": lambda: network(
        [convnext(64), vit(32)], interaction_block_indexes=[[0, 1], [0, 1]]
    ),
    "two ConvNeXts": lambda: network([convnext(64), convnext(32)]),
    "regular attention": lambda: network([vit(64), vit(32)], attention="regular"),
    "alternating directions": lambda: network([vit(64), vit(32)], directions="alternating"),
    "no interactions": lambda: network([vit(64), vit(32)], num_interactions=0),
    "one branch": lambda: network([vit(64)], num_interactions=0, merge="none"),
    "equal sizes": lambda: network([vit(64), vit(64)]),
    "some merged": lambda: network([vit(96), vit(64), vit(32)], merged_branches=[0, 2]),
}
