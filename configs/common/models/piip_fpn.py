"""PIIP below a feature pyramid, as in the released detectors; an experiment adds the branches."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from piip_d2.modeling import PIIPFPN, build_piip

backbone = L(PIIPFPN)(
    bottom_up=L(build_piip)(
        branches=[],
        num_interactions=12,
        # Per branch, the last block before each interaction; None splits the blocks evenly.
        interaction_block_indexes=None,
        directions="adjacent",
        attention="deformable",
        num_heads=16,
        num_points=4,
        value_ratio=0.5,
        with_projection=True,
        with_norm=True,
        with_ffn=True,
        ffn_ratio=0.25,
        interaction_drop_path_rate=0.4,
        merge="conv",
        # Channels of the merged map; None takes those of the lowest resolution.
        merge_dim=None,
        # Places of branches in `branches`; None merges all.
        merged_branches=None,
        # Interactions that a feature map each is made after; None makes all maps at the end.
        out_interactions=None,
        out_features=["res2", "res3", "res4", "res5"],
        feature_norm="group",
        size_divisibility=224,
        use_act_checkpoint=False,
    ),
    in_features="${.bottom_up.out_features}",
    out_channels=256,
    top_block=L(LastLevelMaxPool)(),
)
