"""Augmentation at many scales, as detectors with long schedules are trained."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.data import transforms as T

__all__ = ["MultiScaleCrop"]


class MultiScaleCrop(T.Augmentation):
    """Resizes an image at random, half of the time after zooming into it, and limits its size.

    The scales of DETR (https://arxiv.org/abs/2005.12872, section 4) followed by a crop, which the
    released PIIP models with multi-scale training use: either the short side gets one of several
    lengths, or the image is resized, cropped at random and resized to one of those lengths.
    Whatever then exceeds ``max_crop`` in height or width is cut off at a random place.

    Boxes, masks and semantic maps follow, since only Detectron2's transforms are applied, and all
    random numbers come from NumPy's global generator like those of Detectron2's augmentations.

    Args:
        short_edge_lengths: Lengths of the short side after the resize, in pixels, equally likely.
        max_size: Longest long side after any resize, in pixels; images keep their shape.
        zoom_short_edge_lengths: Lengths of the short side before zooming in.
        zoom_crop_range: Shortest and longest side of what is zoomed into, in pixels, both
            included. Height and width are drawn apart; sides of smaller images stay.
        max_crop: Longest side of the result, in pixels.
        zoom_probability: How often to zoom, in [0, 1].

    Raises:
        ValueError: If there is no length to choose from, or a range is empty.
    """

    def __init__(
        self,
        *,
        short_edge_lengths: Sequence[int],
        max_size: int,
        zoom_short_edge_lengths: Sequence[int],
        zoom_crop_range: Sequence[int],
        max_crop: int,
        zoom_probability: float = 0.5,
    ) -> None:
        super().__init__()
        _check_lengths("short_edge_lengths", short_edge_lengths)
        _check_lengths("zoom_short_edge_lengths", zoom_short_edge_lengths)
        _check_lengths("zoom_crop_range", zoom_crop_range)
        _check_lengths("max_size and max_crop", [max_size, max_crop])
        if len(zoom_crop_range) != 2 or zoom_crop_range[0] > zoom_crop_range[1]:
            raise ValueError(
                "zoom_crop_range must be a shortest and a longest side, got "
                f"{list(zoom_crop_range)}"
            )
        if not 0.0 <= zoom_probability <= 1.0:
            raise ValueError(f"zoom_probability must be in [0, 1], got {zoom_probability}")
        self.zoom_probability = zoom_probability
        resize = _resize(short_edge_lengths, max_size)
        limit = T.RandomCrop("absolute", (max_crop, max_crop))
        zoom = [
            _resize(zoom_short_edge_lengths, max_size),
            T.RandomCrop("absolute_range", tuple(zoom_crop_range)),
        ]
        self._plain = T.AugmentationList([resize, limit])
        self._zoomed = T.AugmentationList([*zoom, resize, limit])

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        """Changes the image and its map in place.

        Args:
            aug_input: The image (H, W, C) and, if there is one, its semantic map.

        Returns:
            What was done, to be done to boxes and masks as well.
        """
        chosen = self._zoomed if self._rand_range() < self.zoom_probability else self._plain
        return chosen(aug_input)

    def __repr__(self) -> str:
        return (
            f"MultiScaleCrop(zoom_probability={self.zoom_probability}, plain={self._plain}, "
            f"zoomed={self._zoomed})"
        )


def _resize(lengths: Sequence[int], max_size: int) -> T.ResizeShortestEdge:
    return T.ResizeShortestEdge(list(lengths), max_size, sample_style="choice")


def _check_lengths(name: str, lengths: Sequence[int]) -> None:
    if not lengths or min(lengths) < 1:
        raise ValueError(f"{name} must be positive numbers of pixels, got {list(lengths)}")
