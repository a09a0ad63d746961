"""The released Mask R-CNN recipes on DeiT branches, copied from their configuration files."""

from __future__ import annotations

from dataclasses import dataclass

DIMS = {"t": 192, "s": 384, "b": 768, "l": 1024}
DEPTHS = {"t": 12, "s": 12, "b": 12, "l": 24}
HEADS = {"t": 3, "s": 6, "b": 12, "l": 16}
DROP_PATH_RATES = {"t": 0.05, "s": 0.05, "b": 0.15, "l": 0.4}


@dataclass(frozen=True)
class Recipe:
    """What differs between the released recipes.

    Args:
        family: Initials of the branches, largest resolution first.
        img_sizes: Their resolutions.
        short_side: Longest short side of an image; the long side is the largest resolution.
        window_size: Side of the attention windows of all blocks.
        num_layers: Length of the scale for the layer-wise decay.
        skip_strides: Steps on that scale per block, all branches but the largest network.
        backbone_parameters: Parameters of the backbone without the FPN.
    """

    family: str
    img_sizes: tuple[int, ...]
    short_side: int
    window_size: int
    num_layers: int
    skip_strides: tuple[int, ...]
    backbone_parameters: int

    @property
    def name(self) -> str:
        return f"mask_rcnn/piip_{self.family}_{'_'.join(map(str, self.img_sizes))}_1x"


def _tsb(img_sizes: tuple[int, ...], short_side: int) -> Recipe:
    return Recipe("tsb", img_sizes, short_side, 14, 12, (1, 1), 175_043_715)


def _sbl(img_sizes: tuple[int, ...], short_side: int) -> Recipe:
    return Recipe("sbl", img_sizes, short_side, 28, 24, (2, 2), 547_810_051)


def _tsbl(img_sizes: tuple[int, ...], short_side: int) -> Recipe:
    # With a true Tiny branch; the released code repeats the Small one (593,216,388).
    return Recipe("tsbl", img_sizes, short_side, 28, 24, (2, 2, 2), 571_066_500)


RECIPES = [
    _tsb((1120, 896, 448), 672),
    _tsb((1568, 896, 448), 941),
    _tsb((1568, 1120, 672), 941),
    _sbl((1120, 672, 448), 672),
    _sbl((1344, 896, 448), 806),
    _sbl((1568, 896, 672), 941),
    _sbl((1568, 1120, 672), 941),
    _tsbl((1344, 896, 672, 448), 806),
    _tsbl((1568, 1120, 672, 448), 941),
    _tsbl((1792, 1568, 1120, 448), 1075),
]
