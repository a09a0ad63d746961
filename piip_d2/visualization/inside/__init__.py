"""What happens inside a PIIP: recorded by hooks, computed as arrays, drawn as figures."""

from piip_d2.visualization.inside.attention import Look, locate, look, looks_at, sampled_points
from piip_d2.visualization.inside.components import ColoredMaps, color_maps, relative_change
from piip_d2.visualization.inside.draw_attention import draw_attention, draw_heads
from piip_d2.visualization.inside.draw_features import draw_features, spread_interactions
from piip_d2.visualization.inside.draw_pyramid import draw_pyramid
from piip_d2.visualization.inside.draw_scales import draw_scales
from piip_d2.visualization.inside.explorer import explorer_data
from piip_d2.visualization.inside.pictures import (
    Subject,
    attention_picture,
    features_picture,
    head_pictures,
    merge_picture,
    observe,
    pyramid_picture,
    with_fewer_colors,
)
from piip_d2.visualization.inside.record import (
    AttentionRecord,
    DetectorRecord,
    InteractionRecord,
    Record,
)
from piip_d2.visualization.inside.recording import record_detector, record_network, recording
from piip_d2.visualization.inside.scales import (
    DirectionScales,
    MergeWeights,
    interaction_scales,
    merge_weights,
)
from piip_d2.visualization.inside.structure import (
    BranchView,
    CostShare,
    branch_labels,
    cost_shares,
    view_branches,
)

__all__ = [
    "AttentionRecord",
    "BranchView",
    "ColoredMaps",
    "CostShare",
    "DetectorRecord",
    "DirectionScales",
    "InteractionRecord",
    "Look",
    "MergeWeights",
    "Record",
    "Subject",
    "attention_picture",
    "branch_labels",
    "color_maps",
    "cost_shares",
    "draw_attention",
    "draw_features",
    "draw_heads",
    "draw_pyramid",
    "draw_scales",
    "explorer_data",
    "features_picture",
    "head_pictures",
    "interaction_scales",
    "locate",
    "look",
    "looks_at",
    "merge_picture",
    "merge_weights",
    "observe",
    "pyramid_picture",
    "record_detector",
    "record_network",
    "recording",
    "relative_change",
    "sampled_points",
    "spread_interactions",
    "view_branches",
    "with_fewer_colors",
]
