"""From a config and a checkpoint to predictions for single images."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from omegaconf import DictConfig, ListConfig, OmegaConf
from PIL import Image
from torch import nn

from piip_d2.data.image_reading import (
    UnusableImageError,
    read_image,
    to_8_bits,
    upright_pixels,
)
from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.config import load_config
from piip_d2.engine.environment import resolve_device
from piip_d2.engine.metadata import describe_run, differences
from piip_d2.engine.overrides import apply_overrides

_logger = logging.getLogger(__name__)

ChannelOrder = Literal["RGB", "BGR"]
ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

_ARRAY_TYPES = ("uint8", "uint16", "float32", "float64")


class Predictor:
    """A detector that takes images as they come and answers in their own pixels.

    Images are resized as the config says for its test data, and need no preparation: files in any
    format that Pillow reads, turned upright by their EXIF tag; grey, 16-bit and transparent ones.

    Args:
        config: Path of a LazyConfig file, or what was loaded from one.
        checkpoint: The weights; "" takes the config's ``train.init_checkpoint``.
        device: A device of PyTorch; "auto" is the GPU where there is one, else the CPU.
        overrides: Changes to the config, such as ``"model.roi_heads.num_classes=3"``.
        score_threshold: Lowest score of interest. Where the model itself keeps only higher ones
            (``test_score_thresh``), it is told to keep these too, as far as its number of
            detections per image allows. None leaves the model as it is.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If the checkpoint cannot be read or is of another model, if the config has
            no test data, or if the device is not there.

    Attributes:
        cfg: The config with the overrides.
        model: The model, in evaluation mode.
        class_names: Names by class index, from the checkpoint or else from the config's test data
            set; empty where neither knows them.
        category_ids: The data set's own category ids by class index, from the same places.

    Example:
        >>> predictor = Predictor("configs/quick/faster_rcnn_trees.py", "output/model_best.pth")
        >>> instances = predictor("forest.jpg")
    """

    def __init__(
        self,
        config: str | Path | DictConfig,
        checkpoint: str | Path = "",
        *,
        device: str | torch.device = "auto",
        overrides: Sequence[str] = (),
        score_threshold: float | None = None,
    ) -> None:
        if isinstance(config, DictConfig):
            self.cfg = apply_overrides(copy.deepcopy(config), overrides)
        else:
            self.cfg = load_config(str(config), overrides)
        self.device = choose_device(str(device))
        mapper = OmegaConf.select(self.cfg, "dataloader.test.mapper")
        if mapper is None:
            raise ValueError(
                "a predictor resizes images as the config does for its test data, but the config "
                "has no dataloader.test.mapper"
            )
        self._image_format: ChannelOrder = mapper.get("image_format", "RGB")
        self._augmentations = T.AugmentationList(instantiate(mapper.augmentations))
        self.model = instantiate(self.cfg.model).to(self.device).eval()
        if score_threshold is not None:
            _lower_score_thresholds(self.model, score_threshold)

        checkpoint = str(checkpoint or OmegaConf.select(self.cfg, "train.init_checkpoint") or "")
        metadata: dict[str, Any] = {}
        if checkpoint:
            averaged = OmegaConf.select(self.cfg, "train.ema.evaluate") != "model"
            loaded = AtomicCheckpointer(self.model).load_for(
                "evaluate", checkpoint, prefer_average=averaged
            )
            metadata = loaded.get("metadata") or {}
            for sentence in differences(metadata, describe_run(self.cfg, self.model, "")):
                _logger.warning("%s", sentence)
        else:
            _logger.warning("No checkpoint is given: the predictions come from random weights.")
        self.class_names, self.category_ids = self._find_classes(metadata)

    def __call__(self, image: ImageLike, *, channel_order: ChannelOrder = "RGB") -> Instances:
        """Finds the objects in an image.

        Args:
            image: Path, Pillow image or array, as `to_rgb` takes them.
            channel_order: Order of the channels of an array; files and Pillow images know theirs.

        Returns:
            The detections, on the CPU, in pixels of ``image`` (a file's upright).

        Raises:
            UnusableImageError: If the image is not there, cannot be read or is too elongated.
            ValueError: If it is an array of another shape.
            TypeError: If it is none of these.
        """
        return self.predict_batch([image], channel_order=channel_order)[0]

    @torch.no_grad()
    def predict_batch(
        self, images: Sequence[ImageLike], *, channel_order: ChannelOrder = "RGB"
    ) -> list[Instances]:
        """Finds the objects in several images at once; see `__call__`."""
        inputs = [self._prepare(to_rgb(image, channel_order)) for image in images]
        outputs = self.model(inputs) if inputs else []
        return [output["instances"].to("cpu") for output in outputs]

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        height, width = image.shape[:2]
        if self._image_format == "BGR":
            image = image[:, :, ::-1]
        augmented = T.AugInput(np.ascontiguousarray(image))
        try:
            self._augmentations(augmented)
        except ValueError as error:
            raise UnusableImageError(
                f"an image of {width} x {height} pixels cannot be resized as the config's "
                f"dataloader.test.mapper.augmentations want it ({error}); crop it to a less "
                "elongated shape"
            ) from error
        channels_first = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        return {"image": torch.from_numpy(channels_first), "height": height, "width": width}

    def _find_classes(self, metadata: dict[str, Any]) -> tuple[list[str], list[int]]:
        names = list(metadata.get("class_names") or [])
        ids = list(metadata.get("category_ids") or [])
        dataset = OmegaConf.select(self.cfg, "dataloader.test.dataset.names")
        if isinstance(dataset, ListConfig) and dataset:
            dataset = dataset[0]
        # MetadataCatalog.get would create an entry for an unknown name.
        if isinstance(dataset, str) and dataset in MetadataCatalog.list():
            known = MetadataCatalog.get(dataset)
            known_names = list(known.get("thing_classes", None) or [])
            if not ids and (not names or names == known_names):
                names = known_names
                contiguous = known.get("thing_dataset_id_to_contiguous_id", None) or {}
                ids = sorted(contiguous, key=contiguous.__getitem__)
        return names, ids


def choose_device(name: str, setting: str = "device") -> torch.device:
    """Finds the device of a name.

    Args:
        name: A device as PyTorch names it; "auto" is the GPU where there is one, else the CPU.
        setting: What errors call the place where the name was given.

    Returns:
        The device.

    Raises:
        ValueError: If the machine has no such device.
    """
    return torch.device(resolve_device(name, setting))


def to_rgb(image: ImageLike, channel_order: ChannelOrder = "RGB") -> np.ndarray:
    """Brings an image into the one form that the detector takes: upright, RGB, 8 bits.

    Deep greys and fractions become 8 bits by the rule of `piip_d2.data.image_reading.to_8_bits`;
    transparency is dropped.

    Args:
        image: Path of a file; Pillow image, turned upright as its EXIF tag says; or array of shape
            ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` in uint8, uint16 or float.
        channel_order: Order of the channels of an array; files and Pillow images know theirs.

    Returns:
        Array of shape ``(H, W, 3)`` in uint8.

    Raises:
        ValueError: If the image is not there, cannot be read (both `UnusableImageError`) or has
            an unusable shape.
        TypeError: If it is none of these.
    """
    if channel_order not in ("RGB", "BGR"):
        raise ValueError(f"channel_order must be 'RGB' or 'BGR', got {channel_order!r}")
    if isinstance(image, Image.Image):
        return upright_pixels(image)
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image, channel_order)
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    raise TypeError(
        f"an image must be a path, a Pillow image or a numpy array, got {type(image).__name__}"
    )


def _lower_score_thresholds(model: nn.Module, threshold: float) -> None:
    """Lets the heads of Detectron2's detectors, all stages of a cascade, keep lower scores."""
    name = "test_score_thresh"
    for module in model.modules():
        own = getattr(module, name, None)
        if isinstance(own, int | float) and own > threshold:
            setattr(module, name, threshold)


def _array_to_rgb(pixels: np.ndarray, channel_order: ChannelOrder) -> np.ndarray:
    if pixels.dtype.name not in _ARRAY_TYPES:
        raise TypeError(f"an image array must be of {_ARRAY_TYPES}, got {pixels.dtype.name}")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise ValueError(
            "an image array must be of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with at "
            f"least one pixel, got {pixels.shape}"
        )
    if pixels.dtype != np.uint8:
        pixels = to_8_bits(pixels)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    pixels = pixels[:, :, :3]
    return pixels[:, :, ::-1] if channel_order == "BGR" else pixels
