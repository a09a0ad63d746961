"""A detector that takes images as they come."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor, nn

from piip_d2.data.image_reading import UnusableImageError
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine.checkpointer import AtomicCheckpointer
from piip_d2.engine.config import load_config
from piip_d2.engine.environment import resolve_device
from piip_d2.engine.metadata import describe_run, differences
from piip_d2.engine.overrides import apply_overrides
from piip_d2.engine.precision import Precision
from piip_d2.engine.starting_weights import check_weights_of_detector
from piip_d2.modeling.padding import padded_size
from piip_d2.predictor.pictures import ChannelOrder, ImageLike, to_rgb

_logger = logging.getLogger(__name__)

_DTYPES = ("fp32", "bf16", "fp16")


class Predictor:
    """A detector that takes images as they come and answers in their own pixels.

    Images are resized as the config says for its test data, and need no preparation: files in any
    format that Pillow reads, turned upright by their EXIF tag; grey, 16-bit and transparent ones;
    arrays are RGB unless said otherwise.

    Args:
        config: Path of a LazyConfig file, name of a published one (see
            :func:`piip_d2.list_configs`), or what was loaded from one.
        checkpoint: The weights; "" or None takes the config's ``train.init_checkpoint``. Random
            ones have to be asked for, by ``overrides=["train.init_checkpoint="]``.
        device: A device of PyTorch; "auto" is the GPU where there is one, else the CPU.
        dtype: Arithmetic: "bf16" or "fp16" where PyTorch's autocast deems it safe, which takes
            about half of the memory and time on GPUs; "fp32" or None for float32 throughout.
            Weights and answers are float32 anyway.
        batch_size: How many images :meth:`predict_batch` lets the model see at once at most.
        overrides: Changes to the config, such as ``"model.roi_heads.num_classes=3"``. The data
            that ``data.train`` and ``data.val`` name are read, and set the classes, when they are
            given here or written in a config that is a Python file. The ``config.yaml`` of a run
            has its classes, and works without the data.
        score_threshold: Lowest score of interest. Where the model itself keeps only higher ones
            (``test_score_thresh``), it is told to keep these too, as far as its number of
            detections per image allows. None leaves the model as it is.

    Raises:
        FileNotFoundError: If there is no such config, or no such data.
        ValueError: If there is no checkpoint, or it cannot be read or is of another model, if the
            config has no test data or its own data are wrong, or if device, dtype or batch size
            are not there.

    Attributes:
        cfg: The config with the overrides.
        model: The model, in evaluation mode.
        class_names: Names by class index, from the checkpoint or else from the config's test data
            set; empty where neither knows them.
        category_ids: The data set's own category ids by class index, from the same places.

    Example:
        >>> predictor = Predictor("mask_rcnn/piip_tsb_1120_896_448_1x", "piip_tsb.pth")
        >>> instances = predictor("forest.jpg")
    """

    def __init__(
        self,
        config: str | Path | DictConfig,
        checkpoint: str | Path | None = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | None = None,
        batch_size: int = 4,
        overrides: Sequence[str] = (),
        score_threshold: float | None = None,
    ) -> None:
        self._batch_size = _checked_batch_size(batch_size)
        if dtype is not None and dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {_DTYPES} or None, got {dtype!r}")
        if isinstance(config, DictConfig):
            self.cfg = apply_overrides(copy.deepcopy(config), overrides)
        else:
            self.cfg = load_config(str(config), overrides)
        if _names_data(config, self.cfg, overrides):
            apply_data_section(self.cfg)
        self.device = choose_device(str(device))
        self._precision = Precision(dtype or "fp32", self.device)
        mapper = OmegaConf.select(self.cfg, "dataloader.test.mapper")
        if mapper is None:
            raise ValueError(
                "a predictor resizes images as the config does for its test data, but the config "
                "has no dataloader.test.mapper"
            )
        self._image_format: ChannelOrder = mapper.get("image_format", "RGB")
        self._augmentations = T.AugmentationList(instantiate(mapper.augmentations))
        if not checkpoint:
            check_weights_of_detector(self.cfg)
        self.model = instantiate(self.cfg.model).to(self.device).eval()
        if score_threshold is not None:
            _lower_score_thresholds(self.model, score_threshold)
        metadata = self._load(str(checkpoint or ""))
        self.class_names, self.category_ids = self._find_classes(metadata)

    def __call__(self, image: ImageLike, *, channel_order: ChannelOrder = "RGB") -> Instances:
        """Finds the objects in an image.

        Args:
            image: Path, Pillow image or array, as `to_rgb` takes them.
            channel_order: Order of the channels of an array; "BGR" for those of OpenCV. Files and
                Pillow images know theirs.

        Returns:
            The detections, on the CPU, in pixels of ``image`` (a file's upright).

        Raises:
            UnusableImageError: If the image is not there, cannot be read or is too elongated.
            ValueError: If it is an array of another shape.
            TypeError: If it is none of these.
        """
        return self.predict_batch([image], channel_order=channel_order)[0]

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        channel_order: ChannelOrder = "RGB",
        batch_size: int | None = None,
    ) -> list[Instances]:
        """Finds the objects in any number of images, a few at a time; see `__call__`.

        Answers are those of the images one by one: only images that are padded to the same size
        go through the model together, since it sees the padding.

        Args:
            images: Images of any sizes, read as they are needed.
            channel_order: See `__call__`.
            batch_size: How many are read and seen at once at most, for this call.

        Returns:
            The detections, in the order of ``images``.

        Raises:
            UnusableImageError: As `__call__`.
            ValueError: As `__call__`, or if the batch size is not positive.
            TypeError: As `__call__`, or if ``images`` is one image.
        """
        is_one = isinstance(images, str | bytes) or not isinstance(images, Iterable)
        if is_one or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise TypeError(
                f"images must be a sequence of images, got one {type(images).__name__}; call the "
                "predictor itself with it"
            )
        size = self._batch_size if batch_size is None else _checked_batch_size(batch_size)
        inputs = (self._prepare(to_rgb(image, channel_order)) for image in images)
        return [answer for batch in _batches(inputs, size) for answer in self._detect(batch)]

    def _detect(self, inputs: Sequence[dict[str, Any]]) -> list[Instances]:
        groups: dict[tuple[int, int], list[int]] = {}
        for number, one in enumerate(inputs):
            height, width = one["image"].shape[1:]
            size = padded_size((height, width), getattr(self.model, "backbone", None))
            groups.setdefault(size, []).append(number)
        answers: dict[int, Instances] = {}
        for numbers in groups.values():
            found = self._detect_together([inputs[number] for number in numbers])
            answers.update(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(inputs))]

    @torch.no_grad()
    def _detect_together(self, inputs: list[dict[str, Any]]) -> list[Instances]:
        try:
            with self._precision.autocast():
                outputs = self.model(inputs)
        except torch.OutOfMemoryError as error:
            sizes = ", ".join("x".join(map(str, one["image"].shape[1:])) for one in inputs)
            raise torch.OutOfMemoryError(
                f"the memory of {self.device} does not hold {len(inputs)} image(s) of {sizes} "
                f"pixels (batch_size={len(inputs)}, dtype={self._precision.name}); give a smaller "
                'batch_size or dtype="bf16", or smaller images by dataloader.test.mapper: '
                f"{str(error).splitlines()[0]}"
            ) from error
        return [_answer(output["instances"]) for output in outputs]

    def _load(self, checkpoint: str) -> dict[str, Any]:
        """Loads the weights and returns what the checkpoint says of them."""
        checkpoint = checkpoint or OmegaConf.select(self.cfg, "train.init_checkpoint") or ""
        if not checkpoint:
            _logger.warning("The predictions come from random weights, as was asked for.")
            return {}
        averaged = OmegaConf.select(self.cfg, "train.ema.evaluate") != "model"
        loaded = AtomicCheckpointer(self.model).load_for(
            "evaluate", checkpoint, prefer_average=averaged
        )
        metadata: dict[str, Any] = loaded.get("metadata") or {}
        for sentence in differences(metadata, describe_run(self.cfg, self.model, "")):
            _logger.warning("%s", sentence)
        return metadata

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


def _names_data(config: str | Path | DictConfig, cfg: DictConfig, overrides: Sequence[str]) -> bool:
    """Tells whether the section ``data`` is still to be put into the config."""
    if any(text.lstrip("+").startswith("data.") for text in overrides):
        return True
    # What a run saved, or a caller loaded, has its classes: the data need not be there any more.
    if isinstance(config, DictConfig) or str(config).endswith((".yaml", ".yml")):
        return False
    return any(OmegaConf.select(cfg, f"data.{split}") for split in ("train", "val"))


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return batch_size


def _batches(inputs: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(inputs, size)):
        yield batch


def _answer(instances: Instances) -> Instances:
    """Brings detections to the CPU, and half precision back to float32."""
    instances = instances.to("cpu")
    for name, value in instances.get_fields().items():
        if isinstance(value, Tensor) and value.is_floating_point():
            instances.set(name, value.float())
    return instances


def _lower_score_thresholds(model: nn.Module, threshold: float) -> None:
    """Lets the heads of Detectron2's detectors, all stages of a cascade, keep lower scores."""
    name = "test_score_thresh"
    for module in model.modules():
        own = getattr(module, name, None)
        if isinstance(own, int | float) and own > threshold:
            setattr(module, name, threshold)
