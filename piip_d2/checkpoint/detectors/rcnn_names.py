"""Names of the pyramids and heads of R-CNNs in mmdetection, and in Detectron2."""

from __future__ import annotations

from piip_d2.checkpoint.renaming import Pair

# How many levels of a pyramid, or layers of a head, are looked for.
_MAX_LAYERS = 8

NORM_KINDS = ("bn", "gn")
"""mmdetection names a norm by its kind, Detectron2 does not."""

_RPN: tuple[Pair, ...] = (
    # One convolution alone has no number in either.
    ("rpn_head.rpn_conv.*.conv", "proposal_generator.rpn_head.conv.conv*"),
    ("rpn_head.rpn_conv", "proposal_generator.rpn_head.conv"),
    ("rpn_head.rpn_cls", "proposal_generator.rpn_head.objectness_logits"),
    ("rpn_head.rpn_reg", "proposal_generator.rpn_head.anchor_deltas"),
)


def pyramid_pairs(norm: str) -> list[Pair]:
    """Names of a feature pyramid, of an RPN, and their norms.

    Args:
        norm: One of :data:`NORM_KINDS`.

    Returns:
        Pairs of mmdetection's names and Detectron2's.
    """
    # Detectron2 numbers its levels from 2 (stride 4).
    return [
        *_layers("neck.lateral_convs.", "backbone.fpn_lateral", 2, norm),
        *_layers("neck.fpn_convs.", "backbone.fpn_output", 2, norm),
        *_RPN,
    ]


def box_pairs(norm: str, *, stages: bool) -> list[Pair]:
    """Names of a box head, or of one a stage.

    Args:
        norm: One of :data:`NORM_KINDS`.
        stages: Whether the heads are those of a cascade.

    Returns:
        Pairs of mmdetection's names and Detectron2's.
    """
    stage = ".*" if stages else ""
    theirs = f"roi_head.bbox_head{stage}"
    head, predictor = (f"roi_heads.box_{part}{stage}" for part in ("head", "predictor"))
    return [
        *_layers(f"{theirs}.shared_convs.", f"{head}.conv", 1, norm),
        *((f"{theirs}.shared_fcs.{n}", f"{head}.fc{n + 1}") for n in range(_MAX_LAYERS)),
        (f"{theirs}.fc_cls", f"{predictor}.cls_score"),
        (f"{theirs}.fc_reg", f"{predictor}.bbox_pred"),
    ]


def mask_pairs(norm: str, theirs: str = "", ours: str = "") -> list[Pair]:
    """Names of a mask head.

    Args:
        norm: One of :data:`NORM_KINDS`.
        theirs: The stage in mmdetection: empty, a number behind a dot, or ``".*"`` for all.
        ours: The stage here, likewise.

    Returns:
        Pairs of mmdetection's names and Detectron2's.
    """
    theirs, ours = f"roi_head.mask_head{theirs}", f"roi_heads.mask_head{ours}"
    return [
        *_layers(f"{theirs}.convs.", f"{ours}.mask_fcn", 1, norm),
        (f"{theirs}.upsample", f"{ours}.deconv"),
        (f"{theirs}.conv_logits", f"{ours}.predictor"),
    ]


def _layers(theirs: str, ours: str, first: int, norm: str) -> list[Pair]:
    """Rows of convolutions with or without a norm."""
    pairs = []
    for number in range(_MAX_LAYERS):
        pairs.append((f"{theirs}{number}.{norm}", f"{ours}{number + first}.norm"))
        pairs.append((f"{theirs}{number}.conv", f"{ours}{number + first}"))
    return pairs
