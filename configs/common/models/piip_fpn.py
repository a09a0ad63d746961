"""PIIP below a feature pyramid, as in the released detectors; an experiment adds the branches."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from piip_d2.modeling import PIIPFPN, build_piip

backbone = L(PIIPFPN)(
    bottom_up=L(build_piip)(
        branches=[],
        num_interactions=12,
        attention="deformable",
        num_heads=16,
        num_points=4,
        value_ratio=0.5,
        with_projection=True,
        with_norm=True,
        ffn_ratio=0.25,
        interaction_drop_path_rate=0.4,
        merge="conv",
        out_features=["res2", "res3", "res4", "res5"],
        size_divisibility=224,
        use_act_checkpoint=False,
    ),
    in_features="${.bottom_up.out_features}",
    out_channels=256,
    top_block=L(LastLevelMaxPool)(),
)
