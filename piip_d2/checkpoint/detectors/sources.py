"""Programs that detectors are brought over from, and what their weights do not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Standard deviations of mmdetection's box deltas in the stages of a cascade. Detectron2 has their
# inverses, and rounds those of the third to 30 and 15.
MMDET_DEVIATIONS = (
    (0.1, 0.1, 0.2, 0.2),
    (0.05, 0.05, 0.1, 0.1),
    (0.033, 0.033, 0.067, 0.067),
)

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Source:
    """How a program names a detector, and with what its networks were trained.

    Args:
        title: What to call it in a sentence.
        marks: Beginnings of names that no program further down the list has.
        backbone: The beginning of the names of the backbone.
        second_names: Prefixes under which weights are stored a second time.
        position_temperature: See :class:`piip_d2.modeling.dino.SinePositionEncoding`.
        position_offset: See there.
        pixel_mean: Mean of red, green and blue, or None where it varies from file to file.
        pixel_std: Deviation of the channels, or None.
    """

    title: str
    marks: tuple[str, ...]
    backbone: str = "backbone."
    second_names: tuple[str, ...] = ()
    position_temperature: float = 20.0
    position_offset: float = 0.0
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None


# The decoder refines boxes by the heads, so that they are registered below it too.
_HEADS_OF_DECODER = ("transformer.decoder.class_embed.", "transformer.decoder.bbox_embed.")

SOURCES: dict[str, Source] = {
    "authors": Source(
        title="DINO's authors",
        marks=("input_proj.", "transformer.enc_out_"),
        backbone="backbone.0.",
        second_names=_HEADS_OF_DECODER,
        pixel_mean=_IMAGENET_MEAN,
        pixel_std=_IMAGENET_STD,
    ),
    "detrex": Source(
        title="detrex",
        marks=("transformer.tgt_embed.", "class_embed.", "label_enc."),
        second_names=_HEADS_OF_DECODER,
        position_temperature=10000.0,
        position_offset=-0.5,
        pixel_mean=_IMAGENET_MEAN,
        pixel_std=_IMAGENET_STD,
    ),
    "mmdet3": Source(
        title="mmdetection 3",
        marks=("memory_trans_fc.", "query_embedding.", "dn_query_generator."),
        pixel_mean=_IMAGENET_MEAN,
        pixel_std=_IMAGENET_STD,
    ),
    # Also what PIIP was trained with; R-CNNs have the same names in mmdetection 3.
    "mmdet": Source(
        title="mmdetection", marks=("bbox_head.", "roi_head.", "rpn_head.", "neck.", "backbone.")
    ),
}
"""By name; the first whose marks are there is the one."""


def recognize_source(names: Iterable[str]) -> str | None:
    """Tells by names which program has stored a detector.

    Args:
        names: Names of weights.

    Returns:
        A key of :data:`SOURCES`, or None.
    """
    names = list(names)
    for key, source in SOURCES.items():
        if any(name.startswith(source.marks) for name in names):
            return key
    return None
