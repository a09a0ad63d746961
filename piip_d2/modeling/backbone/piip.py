"""PIIP as a Detectron2 backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.build import build_network_parts
from piip_d2.modeling.backbone.feature_maps import FeatureMaps, StageFeatureMaps
from piip_d2.modeling.backbone.interaction import InteractionStage
from piip_d2.modeling.backbone.network import PIIPNetwork
from piip_d2.modeling.backbone.presets import build_branch


@BACKBONE_REGISTRY.register()
class PIIP(PIIPNetwork, Backbone):
    """:class:`PIIPNetwork` with what Detectron2 asks of a backbone; the same parameters.

    Args:
        branches: See :class:`PIIPNetwork`, like the next five and the last.
        interaction_block_indexes: See there.
        interactions: See there.
        merge: See there.
        feature_maps: See there.
        stage_merges: See there.
        size_divisibility: Images are padded to multiples of this many pixels. The released
            models use 224, which makes most of their pyramids come out even.
        square_size: Images are padded to squares of this side in pixels; 0 for no square.
        use_act_checkpoint: See there.

    Raises:
        ValueError: If numbers do not fit together.
    """

    @configurable
    def __init__(
        self,
        *,
        branches: Sequence[Branch],
        interaction_block_indexes: Sequence[Sequence[int]],
        interactions: Sequence[InteractionStage],
        merge: nn.Module,
        feature_maps: FeatureMaps | StageFeatureMaps,
        stage_merges: Mapping[int, nn.Module] | None = None,
        size_divisibility: int = 32,
        square_size: int = 0,
        use_act_checkpoint: bool | str = False,
    ) -> None:
        super().__init__(
            branches=branches,
            interaction_block_indexes=interaction_block_indexes,
            interactions=interactions,
            merge=merge,
            feature_maps=feature_maps,
            stage_merges=stage_merges,
            use_act_checkpoint=use_act_checkpoint,
        )
        coarsest = max(feature_maps.strides.values())
        if size_divisibility < 1 or size_divisibility % coarsest:
            raise ValueError(
                f"size_divisibility must be a multiple of the coarsest stride ({coarsest}), got "
                f"{size_divisibility}"
            )
        self._size_divisibility = size_divisibility
        self._square_size = square_size

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Reads the keys that :func:`piip_d2.config.add_piip_config` adds."""
        if "PIIP" not in cfg.MODEL:
            raise ValueError(
                "the config has no MODEL.PIIP; call piip_d2.config.add_piip_config(cfg) first"
            )
        piip = cfg.MODEL.PIIP
        lists = ("BRANCHES", "IMG_SIZES", "WINDOW_SIZES", "DROP_PATH_RATES")
        lengths = {f"MODEL.PIIP.{name}": len(piip[name]) for name in lists}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"these lists need one entry per branch each, got lengths {lengths}")
        branches = [
            build_branch(
                preset,
                img_size=img_size,
                drop_path_rate=drop_path_rate,
                use_act_checkpoint=piip.USE_ACT_CHECKPOINT,
                **({"window_size": window_size} if window_size else {}),
            )
            for preset, img_size, window_size, drop_path_rate in zip(
                piip.BRANCHES,
                piip.IMG_SIZES,
                piip.WINDOW_SIZES,
                piip.DROP_PATH_RATES,
                strict=True,
            )
        ]
        return {
            **build_network_parts(
                branches,
                num_interactions=piip.NUM_INTERACTIONS,
                interaction_block_indexes=piip.INTERACTION_BLOCK_INDEXES or None,
                directions=piip.DIRECTIONS,
                attention=piip.ATTENTION,
                num_heads=piip.NUM_HEADS,
                num_points=piip.NUM_POINTS,
                value_ratio=piip.VALUE_RATIO,
                with_projection=piip.WITH_PROJECTION,
                with_norm=piip.WITH_NORM,
                with_ffn=piip.WITH_FFN,
                ffn_ratio=piip.FFN_RATIO,
                drop_path_rate=piip.INTERACTION_DROP_PATH_RATE,
                merge=piip.MERGE,
                merge_dim=piip.MERGE_DIM or None,
                merged_branches=piip.MERGED_BRANCHES or None,
                out_interactions=piip.OUT_INTERACTIONS or None,
                feature_norm=piip.FEATURE_NORM,
                out_features=piip.OUT_FEATURES,
                use_act_checkpoint=piip.USE_ACT_CHECKPOINT,
            ),
            "size_divisibility": piip.SIZE_DIVISIBILITY,
            "square_size": piip.SQUARE_SIZE,
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and strides of the feature maps, by name."""
        return {
            name: ShapeSpec(channels=self.feature_maps.channels[name], stride=stride)
            for name, stride in self.feature_maps.strides.items()
        }

    @property
    def size_divisibility(self) -> int:
        """Images are padded to multiples of this many pixels."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What ``ImageList`` has to heed when it pads."""
        return {"size_divisibility": self._size_divisibility, "square_size": self._square_size}


def build_piip(
    branches: Sequence[Branch],
    *,
    size_divisibility: int = 224,
    square_size: int = 0,
    interaction_drop_path_rate: float = 0.4,
    **options: Any,
) -> PIIP:
    """Builds the backbone from its branches; what configuration files call.

    Args:
        branches: Largest resolution first.
        size_divisibility: See :class:`PIIP`.
        square_size: See :class:`PIIP`.
        interaction_drop_path_rate: Stochastic depth of the interactions' ConvFFNs.
        **options: Arguments of :func:`build_network_parts` and :func:`build_interactions`.

    Returns:
        The backbone.

    Raises:
        ValueError: If the order is wrong or numbers do not fit together.
    """
    parts = build_network_parts(branches, drop_path_rate=interaction_drop_path_rate, **options)
    return PIIP(**parts, size_divisibility=size_divisibility, square_size=square_size)
