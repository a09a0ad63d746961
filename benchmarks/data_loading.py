#!/usr/bin/env python
"""Times the preparation of training images: decoding, augmentation, boxes and masks.

python -m benchmarks.data_loading --output benchmarks/results/data_loading.json

One worker's time for an image is that of this process, on one thread, in time of the processor.
Beside it: Detectron2's own mapper on the same images, loaders with workers, and with ``--model``
a training step of a detector, as the rate to keep up with.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from benchmarks.command import add_common_options, command_line, device_of, start
from benchmarks.networks import EAGER, EXPERIMENTS, build_model
from benchmarks.rows import TRAINING, Results, Row, timing_fields
from benchmarks.steps import make_detector_step
from benchmarks.stopwatch import Patience, measure
from piip_d2.data import PIIPDatasetMapper, SceneOptions, build_train_loader, render_scene
from piip_d2.data.augmentation import MultiScaleCrop
from piip_d2.data.scene_files import scene_to_coco
from piip_d2.data.seeding import sample_randomness
from piip_d2.engine.precision import Precision
from piip_d2.visualization.image_files import find_images

SUITE = "data_loading"
LOADING = "loading"
BASELINE = "detectron2"
_STEP = "training step"
_DTYPE = "uint8"
_LOADER_SAMPLES = 3
# Sides of files, in pixels, and how they are drawn.
FILE_SIZES = {"640x480": (640, 480), "1280x960": (1280, 960)}
OBJECTS = (5, 9)

Entry = dict[str, Any]
Mapper = Callable[[Entry], Entry]


def augmentations(name: str) -> list[T.Augmentation]:
    """Builds one of the recipes: one scale, crops at many scales, or large-scale jitter."""
    if name == "one scale":
        return [T.ResizeShortestEdge(672, 1120), T.RandomFlip()]
    if name == "crops at many scales":
        crop = MultiScaleCrop(
            short_edge_lengths=list(range(480, 801, 32)),
            max_size=1333,
            zoom_short_edge_lengths=[400, 500, 600],
            zoom_crop_range=[384, 600],
            max_crop=1024,
        )
        return [T.RandomFlip(), crop]
    jitter = [T.ResizeScale(0.1, 2.0, 1024, 1024), T.FixedSizeCrop((1024, 1024))]
    return [*jitter, T.RandomFlip()]


RECIPES = ("one scale", "crops at many scales", "large-scale jitter")


def write_images(
    folder: Path, size: tuple[int, int], count: int, photographs: Sequence[Path]
) -> list[Entry]:
    """Writes JPEGs, and returns them as entries of a data set with polygons.

    Args:
        folder: Where they go.
        size: Width and height in pixels.
        count: How many.
        photographs: Pictures to take in turn, resized; without them rendered scenes are. The
            objects are those of scenes in both cases.

    Returns:
        Entries in Detectron2's format.
    """
    options = SceneOptions(
        image_size=size,
        num_objects=OBJECTS,
        object_size=(40, size[1] // 2),
        with_semantic_map=False,
    )
    entries = []
    for number in range(count):
        scene = render_scene(options, 0, number)
        picture = Image.fromarray(scene.image)
        if photographs:
            source = photographs[number % len(photographs)]
            picture = Image.open(source).convert("RGB").resize(size)
        path = folder / f"{size[0]}_{number}.jpg"
        picture.save(path, quality=90)
        objects = [
            {**found, "bbox_mode": BoxMode.XYWH_ABS, "category_id": found["category_id"] - 1}
            for found in scene_to_coco(scene, number)
            # As in most data sets, and as Detectron2's mapper takes them.
            if isinstance(found["segmentation"], list)
        ]
        entries.append(
            {"file_name": str(path), "image_id": number, "annotations": objects}
            | {"width": size[0], "height": size[1]}
        )
    return entries


def mappers(recipe: str) -> dict[str, Mapper]:
    """Builds what is compared, by variant."""
    common = {"is_train": True, "use_instance_mask": True}
    ours = {"image_format": "RGB", **common}
    found: dict[str, Mapper] = {
        "pillow": PIIPDatasetMapper(augmentations=augmentations(recipe), **ours),
        "torch": PIIPDatasetMapper(
            augmentations=augmentations(recipe), resize_with="torch", **ours
        ),
    }
    if recipe == "one scale":
        # For crops it needs another package, to cut polygons.
        found[BASELINE] = DatasetMapper(
            augmentations=augmentations(recipe), image_format="RGB", **common
        )
    return found


def time_mapper(mapper: Mapper, entries: Sequence[Entry], passes: int) -> list[float]:
    """Times one image after the other.

    Args:
        mapper: What prepares them.
        entries: The images.
        passes: How often to go over them, with other random numbers each time.

    Returns:
        Seconds of the processor for each image.
    """
    times = []
    # The first few load code and fill caches.
    for number in range(-3, passes * len(entries)):
        with sample_randomness(0, max(number, 0)):
            begin = time.process_time()
            mapper(entries[number % len(entries)])
            times.append(time.process_time() - begin)
    return times[3:]


def time_loader(mapper: Mapper, entries: list[Entry], num_workers: int, count: int) -> list[float]:
    """Returns seconds on the clock per image of a loader with workers that are all busy.

    Args:
        mapper: What prepares images.
        entries: The images.
        num_workers: Number of workers.
        count: Images of each of the samples.

    Returns:
        A number for each sample.
    """
    loader = iter(
        build_train_loader(entries, mapper=mapper, total_batch_size=2, num_workers=num_workers)
    )
    # What was prepared ahead is taken first.
    for _ in range(2 * num_workers + 2):
        next(loader)
    times, batches = [], max(1, count // 2)
    for _ in range(_LOADER_SAMPLES):
        begin = time.perf_counter()
        for _ in itertools.islice(loader, batches):
            pass
        times.append((time.perf_counter() - begin) / (2 * batches))
    return times


def training_step(network: str, device: torch.device, *, tiny: bool) -> Row:
    """Times training steps of a whole detector, on one image.

    Args:
        network: One of :data:`benchmarks.networks.EXPERIMENTS`.
        device: Where it works.
        tiny: Whether to shrink everything.

    Returns:
        The row.
    """
    model = build_model(network, whole_detector=True, tiny=tiny).to(device)
    precision = Precision("bf16", device)
    step = make_detector_step(model, precision, EAGER, training=True, batch_size=1)
    patience = Patience(samples=3, at_least=1, seconds=20.0)
    timing = measure(step, device, patience).timing
    kind = {"dtype": "bfloat16", "mode": TRAINING, "batch_size": 1}
    return Row(
        SUITE, network, _STEP, **kind, **timing_fields(timing), note="the rate to keep up with"
    )


class Report:
    """Writes and prints what was timed.

    Args:
        results: Where rows go.
        run: What they say of this run.
    """

    def __init__(self, results: Results, run: dict[str, Any]) -> None:
        self.results, self.run = results, run

    def lacks(self, name: str, variant: str) -> bool:
        """Whether a preparation is still to be timed."""
        return not self.results.has((SUITE, name, variant, _DTYPE, LOADING))

    def add(self, name: str, variant: str, times: Sequence[float], **fields: Any) -> None:
        """Takes the seconds of single images in, as a row.

        Args:
            name: What was timed.
            variant: How it was done.
            times: Seconds for one image each.
            **fields: Further fields of the row.
        """
        lower, median, upper = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
        spread = {"median_s": median, "quartiles_s": (lower, upper), "samples": len(times)}
        kind = {"dtype": _DTYPE, "mode": LOADING, "batch_size": 1, **fields}
        self.take(Row(SUITE, name, variant, **spread, **kind))

    def take(self, row: Row) -> None:
        """Takes a row in."""
        self.results.add(row, self.run)
        seconds = row.median_s
        note = f" ({row.note})" if row.note else ""
        print(
            f"{row.name}, {row.variant}{note}: {1e3 * seconds:.2f} ms, {1 / seconds:.1f} images/s",
            flush=True,
        )


def measure_loading(
    report: Report, size_name: str, entries: list[Entry], workers: Sequence[int], passes: int
) -> None:
    """Times mappers alone, then loaders with workers.

    Args:
        report: Where results go.
        size_name: What the size of the files is called.
        entries: The images.
        workers: Numbers of workers.
        passes: How often mappers go over the images.
    """
    for recipe in RECIPES:
        name = f"{recipe}, {size_name}"
        for variant, mapper in mappers(recipe).items():
            if report.lacks(name, variant):
                times = time_mapper(mapper, entries, passes)
                report.add(name, variant, times, baseline=(name, BASELINE), note="one worker")
    name = f"{RECIPES[0]}, {size_name}"
    for count in workers:
        if report.lacks(name, f"{count} workers"):
            times = time_loader(mappers(RECIPES[0])["pillow"], entries, count, len(entries))
            report.add(name, f"{count} workers", times, note="pillow")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a line for each result and writes them where that is said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser)
    parser.add_argument("--photographs", nargs="*", default=[], help="files, folders or globs")
    parser.add_argument("--num-images", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument(
        "--model", choices=list(EXPERIMENTS), help="detector whose training step is timed too"
    )
    args = parser.parse_args(argv)
    report = Report(*start(args, SUITE, command_line("benchmarks.data_loading", argv)))
    photographs = find_images(args.photographs)
    count, passes = (2, 1) if args.tiny else (args.num_images, 3)
    with tempfile.TemporaryDirectory() as folder:
        for size_name, size in FILE_SIZES.items():
            entries = write_images(Path(folder), size, count, photographs)
            # One worker has one thread.
            torch.set_num_threads(1)
            measure_loading(report, size_name, entries, args.workers, passes)
            torch.set_num_threads(args.threads)
        key = (SUITE, args.model, _STEP, "bfloat16", TRAINING)
        if args.model and not report.results.has(key):
            report.take(training_step(args.model, device_of(args), tiny=args.tiny))


if __name__ == "__main__":
    main()
