"""Rendered scenes: pictures of shapes with boxes, masks and semantic maps, the same everywhere.

A scene is a function of (options, seed, index) alone. Random numbers come from NumPy's
``RandomState``, whose stream is frozen, and pixels from elementwise arithmetic, so that neither a
library's version nor the machine changes a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .mask_outlines import mask_box, mask_to_segmentation, uncompressed_rle
from .scene_shapes import SHAPE_NAMES, cosine_and_sine, shape_distance
from .scene_textures import contrasting_color, hue_color, random_color, texture

__all__ = ["Scene", "SceneObject", "SceneOptions", "class_names", "render_scene"]

HUE_NAMES = (
    "red", "orange", "lime", "green", "mint", "cyan", "blue", "violet", "magenta", "pink",
)  # fmt: skip
MAX_CLASSES = len(SHAPE_NAMES) * len(HUE_NAMES)
BACKGROUND = -1
PLACEMENT_TRIES = 40


@dataclass(frozen=True)
class SceneOptions:
    """What a scene may look like. The defaults are those of the benchmark ``scenes-v1``.

    Args:
        image_size: Side in pixels, or (width, height).
        num_classes: Up to 8 classes differ by shape; beyond, by shape and hue.
        num_objects: Fewest and most objects of an image.
        object_size: Smallest and largest diameter, in pixels, of the circle round an object.
        min_visible: Share of each object that later ones must leave visible.
        noise: Largest change of a grey level by noise; 0 for none.
        crowd_fraction: Share of images with a group annotated as one crowd.
        empty_fraction: Share of images without any object.
        with_semantic_map: Whether scenes carry a map of classes (0 = background).
    """

    image_size: int | tuple[int, int] = 256
    num_classes: int = 4
    num_objects: tuple[int, int] = (2, 6)
    object_size: tuple[int, int] = (24, 110)
    min_visible: float = 0.35
    noise: int = 20
    crowd_fraction: float = 0.0
    empty_fraction: float = 0.0
    with_semantic_map: bool = True

    def __post_init__(self) -> None:
        if min(self.width_and_height) < 1:
            raise ValueError(f"image_size must be positive, got {self.image_size}")
        if not 1 <= self.num_classes <= MAX_CLASSES:
            raise ValueError(
                f"num_classes must lie between 1 and {MAX_CLASSES}, got {self.num_classes}"
            )
        if not 0 <= self.num_objects[0] <= self.num_objects[1]:
            raise ValueError(
                f"num_objects must be (fewest, most) with 0 <= fewest <= most, "
                f"got {self.num_objects}"
            )
        smallest, largest = self.object_size
        if not 4 <= smallest <= largest <= min(self.width_and_height):
            raise ValueError(
                f"object_size must be (smallest, largest) between 4 and the shorter side of the "
                f"image ({min(self.width_and_height)}), got {self.object_size}"
            )
        if not 0 <= self.noise <= 127:
            raise ValueError(f"noise must lie between 0 and 127, got {self.noise}")
        for name in ("min_visible", "crowd_fraction", "empty_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    @property
    def width_and_height(self) -> tuple[int, int]:
        """The size of the image as (width, height)."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        width, height = self.image_size
        return width, height


@dataclass(frozen=True)
class SceneObject:
    """An annotation of what is visible of an object.

    Args:
        category: Index of the class, from 0.
        bbox: [x, y, width, height] in pixels.
        segmentation: COCO polygons or a COCO RLE.
        area: Number of visible pixels.
        is_crowd: Whether this is a group under one annotation.
    """

    category: int
    bbox: list[float]
    segmentation: list[list[float]] | dict[str, Any]
    area: int
    is_crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture with its annotations.

    Args:
        image: RGB, uint8, (height, width, 3).
        objects: The annotations, from the lowest object to the topmost.
        semantic_map: Array (height, width) in uint8, 0 = background, else category + 1.
    """

    image: npt.NDArray[np.uint8]
    objects: list[SceneObject]
    semantic_map: npt.NDArray[np.uint8] | None


def class_names(num_classes: int) -> list[str]:
    """Returns the names of the classes of scenes with ``num_classes`` of them."""
    if num_classes <= len(SHAPE_NAMES):
        return list(SHAPE_NAMES[:num_classes])
    names = [f"{hue} {shape}" for hue in HUE_NAMES for shape in SHAPE_NAMES]
    return names[:num_classes]


def render_scene(options: SceneOptions, seed: int, index: int) -> Scene:
    """Returns scene number ``index`` of the series that belongs to ``seed``."""
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 2**32:
            raise ValueError(f"{name} must lie in [0, 2**32), got {value}")
    canvas = _Canvas(options, np.random.RandomState([seed, index]))
    canvas.add_objects()
    canvas.add_noise()
    objects = canvas.annotations()
    return Scene(
        image=np.floor(np.clip(canvas.image, 0.0, 255.0) + 0.5).astype(np.uint8),
        objects=objects,
        semantic_map=canvas.semantic_map() if options.with_semantic_map else None,
    )


@dataclass(frozen=True)
class _Stamp:
    """A shape at its place: rows and columns of the image, and distances inside them."""

    rows: slice
    columns: slice
    distance: npt.NDArray[np.float64]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        return self.distance <= 0.0


class _Canvas:
    """The picture being painted, and which object owns each of its pixels."""

    def __init__(self, options: SceneOptions, rng: np.random.RandomState) -> None:
        self.options = options
        self.rng = rng
        self.width, self.height = options.width_and_height
        self.background = random_color(rng)
        other = [channel + self._integer(-70, 71) for channel in self.background]
        pattern = texture(rng, self.height, self.width)[:, :, None]
        low = np.asarray(self.background, dtype=np.float64)
        self.image = low + (np.asarray(other, dtype=np.float64) - low) * pattern
        self.owner = np.full((self.height, self.width), BACKGROUND, dtype=np.int64)
        self.categories: list[int] = []
        self.areas: list[int] = []
        self.crowds: list[bool] = []
        self.colors: list[tuple[int, int, int]] = []

    def add_objects(self) -> None:
        if float(self.rng.random_sample()) < self.options.empty_fraction:
            return
        fewest, most = self.options.num_objects
        count = self._integer(fewest, most + 1)
        if float(self.rng.random_sample()) < self.options.crowd_fraction:
            self._add_crowd()
        for _ in range(count):
            self._add_object()

    def add_noise(self) -> None:
        bound = self.options.noise
        if bound:
            shape = (2, *self.image.shape)
            drawn = np.frombuffer(self.rng.bytes(2 * self.image.size), dtype=np.uint8)
            scaled = (drawn.astype(np.int64).reshape(shape) * (bound + 1)) >> 8
            # The difference of two uniform numbers: mostly small, never beyond the bound.
            self.image = self.image + (scaled[0] - scaled[1])

    def annotations(self) -> list[SceneObject]:
        objects = []
        for number, category in enumerate(self.categories):
            mask = self.owner == number
            # What later objects cover is no longer owned: masks are of what is visible.
            crowd = self.crowds[number]
            objects.append(
                SceneObject(
                    category=category,
                    bbox=mask_box(mask),
                    segmentation=uncompressed_rle(mask) if crowd else mask_to_segmentation(mask),
                    area=int(mask.sum()),
                    is_crowd=crowd,
                )
            )
        return objects

    def semantic_map(self) -> npt.NDArray[np.uint8]:
        # Index -1, the background, picks the last entry.
        labels = np.asarray([*(category + 1 for category in self.categories), 0], dtype=np.uint8)
        return labels[self.owner]

    def _add_object(self) -> None:
        category, color = self._class_and_color()
        smallest, largest = self.options.object_size
        # An object that finds no place is left out rather than drawn without annotation.
        for _ in range(PLACEMENT_TRIES):
            stamp = self._stamp(category, self._integer(smallest, largest + 1))
            if stamp.mask.any() and self._leaves_others_visible(stamp):
                self._paint([stamp], category, color, is_crowd=False)
                return

    def _add_crowd(self) -> None:
        category, color = self._class_and_color()
        smallest, largest = self.options.object_size
        size = min(smallest + smallest // 2, largest)
        spread = min(4 * size, self.width, self.height)
        left = self._integer(0, self.width - spread + 1)
        top = self._integer(0, self.height - spread + 1)
        stamps = [
            self._stamp(category, self._integer(smallest, size + 1), (left, top, spread, spread))
            for _ in range(self._integer(8, 15))
        ]
        self._paint(stamps, category, color, is_crowd=True)

    def _class_and_color(self) -> tuple[int, tuple[int, int, int]]:
        category = self._integer(0, self.options.num_classes)
        if self.options.num_classes > len(SHAPE_NAMES):
            return category, hue_color(self.rng, category // len(SHAPE_NAMES), len(HUE_NAMES))
        return category, contrasting_color(self.rng, self.background, self.colors)

    def _stamp(
        self, category: int, size: int, region: tuple[int, int, int, int] | None = None
    ) -> _Stamp:
        left, top, width, height = region or (0, 0, self.width, self.height)
        radius = 0.5 * size
        center_x = left + radius + float(self.rng.random_sample()) * (width - size)
        center_y = top + radius + float(self.rng.random_sample()) * (height - size)
        cosine, sine = cosine_and_sine(0.1 * self._integer(0, 3600))
        proportion = float(self.rng.random_sample())
        rows = _window(center_y, radius, self.height)
        columns = _window(center_x, radius, self.width)
        y = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] + 0.5 - center_y
        x = np.arange(columns.start, columns.stop, dtype=np.float64)[None, :] + 0.5 - center_x
        name = SHAPE_NAMES[category % len(SHAPE_NAMES)]
        u, v = x * cosine + y * sine, y * cosine - x * sine
        return _Stamp(rows, columns, shape_distance(name, u, v, radius, proportion))

    def _leaves_others_visible(self, stamp: _Stamp) -> bool:
        below = self.owner[stamp.rows, stamp.columns][stamp.mask]
        for number in {int(value) for value in np.unique(below)} - {BACKGROUND}:
            visible = int((self.owner == number).sum()) - int((below == number).sum())
            if visible < max(1.0, self.options.min_visible * self.areas[number]):
                return False
        return True

    def _paint(
        self, stamps: list[_Stamp], category: int, color: tuple[int, int, int], *, is_crowd: bool
    ) -> None:
        number = len(self.categories)
        for stamp in stamps:
            window = stamp.rows, stamp.columns
            shade = 0.7 + 0.45 * texture(self.rng, *stamp.distance.shape)[:, :, None]
            fill = shade * np.asarray(color, dtype=np.float64)
            # Half a pixel to either side of the outline: a smooth edge.
            cover = np.clip(0.5 - stamp.distance, 0.0, 1.0)[:, :, None]
            self.image[window] = self.image[window] + (fill - self.image[window]) * cover
            self.owner[window][stamp.mask] = number
        self.categories.append(category)
        self.areas.append(int((self.owner == number).sum()))
        self.crowds.append(is_crowd)
        self.colors.append(color)

    def _integer(self, low: int, high: int) -> int:
        return int(self.rng.randint(low, high, dtype=np.int64))


def _window(center: float, radius: float, length: int) -> slice:
    return slice(max(math.floor(center - radius), 0), min(math.ceil(center + radius) + 1, length))
