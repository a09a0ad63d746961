"""What a finished run has to show: its AP as a table, a contact sheet and the curves."""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tabulate import tabulate

from piip_d2._atomic_file import write_text_atomically
from piip_d2.data.image_reading import UnusableImageError, read_image
from piip_d2.data.registration import get_dataset_dicts
from piip_d2.engine import evaluate_checkpoint
from piip_d2.engine.seeding import resolve_seed
from piip_d2.predictor import Predictor, choose_device

from .contact_sheet import Example, draw_contact_sheet
from .curves import AP_TASKS, Series, read_metrics
from .training import draw_training, name_test_data

_logger = logging.getLogger(__name__)

_COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

# Metrics by task, as Detectron2's evaluators return them; None or absent where undefined.
Results = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class RunSummary:
    """What `summarize_run` made.

    Args:
        checkpoint: The weights that the pictures show.
        table: AP of these weights, as text.
        contact_sheet: Picture of predictions beside ground truth.
        curves: Picture of losses and AP over training; None without a ``metrics.json``.
        sources: Text with licence and source of every image shown.
    """

    checkpoint: Path
    table: str
    contact_sheet: Path
    curves: Path | None
    sources: Path


def summarize_run(
    cfg: DictConfig,
    run_dir: str | Path,
    *,
    num_images: int = 8,
    threshold: float = 0.5,
    device: str = "auto",
) -> RunSummary:
    """Draws the contact sheet and the curves of a run into its folder, and tabulates its AP.

    The AP is taken from what the run wrote down; only where there is none, the checkpoint is
    evaluated, and the folder gets a ``results.json``. Its ``config.yaml`` and log stay as they
    are.

    Args:
        cfg: The config of the run; it is not changed.
        run_dir: Its output folder.
        num_images: How many test images to show, evenly spaced over the test data.
        threshold: Lowest score drawn.
        device: As for `Predictor`.

    Returns:
        The table, and the files that were written.

    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        ValueError: If no test image can be read, or if the device is not there.
    """
    run_dir = Path(run_dir)
    checkpoint = find_checkpoint(run_dir)
    metrics_file = run_dir / "metrics.json"
    metrics = read_metrics(metrics_file) if metrics_file.is_file() else {}
    results = known_results(cfg, run_dir, checkpoint, metrics)
    if not results:
        results = _evaluate(cfg, run_dir, checkpoint, device)

    predictor = Predictor(cfg, checkpoint, device=device)
    dataset = cfg.dataloader.test.dataset.names
    records = get_dataset_dicts(dataset, filter_empty=False)
    examples = _examples(predictor, choose_evenly(records, num_images))
    sheet = draw_contact_sheet(
        list(examples.values()),
        predictor.class_names,
        title=f"{run_dir.name}: ground truth (left) and predictions (right)",
        subtitle=f"{len(examples)} of {len(records)} images of {name_test_data(cfg)}, evenly "
        f"spaced · {checkpoint.name} · {_in_short(results)}",
        threshold=threshold,
    )
    sheet.savefig(run_dir / "contact_sheet.png")
    sources = run_dir / "contact_sheet_sources.txt"
    write_text_atomically(sources, describe_sources(list(examples)))
    curves = run_dir / "curves.png" if metrics else None
    if curves:
        draw_training([run_dir]).savefig(curves)
    table = tabulate_results(results)
    return RunSummary(checkpoint, table, run_dir / "contact_sheet.png", curves, sources)


def find_checkpoint(run_dir: Path) -> Path:
    """Finds the best weights of a run, or else its final or its last ones.

    Args:
        run_dir: The output folder of the run.

    Returns:
        The file with the weights.

    Raises:
        FileNotFoundError: If the folder holds none.
    """
    names = ["model_best.pth", "model_final.pth"]
    noted = run_dir / "last_checkpoint"
    if noted.is_file():
        names.append(noted.read_text(encoding="utf-8").strip())
    for name in names:
        if name and (run_dir / name).is_file():
            return run_dir / name
    raise FileNotFoundError(
        f"there is no checkpoint in {run_dir} (looked for {', '.join(names)}); train first, or "
        "name the output folder of a run"
    )


def known_results(
    cfg: DictConfig, run_dir: Path, checkpoint: Path, metrics: Mapping[str, Series]
) -> Results:
    """Finds the evaluation of a checkpoint in what its run wrote down.

    Args:
        cfg: The config of the run.
        run_dir: Its output folder.
        checkpoint: The weights, see `find_checkpoint`.
        metrics: Series by name, as from `read_metrics`.

    Returns:
        Metrics by task; empty if the run has not evaluated them.
    """
    best = cfg.train.best
    if checkpoint.name == "model_best.pth" and metrics.get(best.metric):
        pick = max if best.mode == "max" else min
        best_value = pick(value for _, value in metrics[best.metric])
        iteration = next(when for when, value in metrics[best.metric] if value == best_value)
        found: dict[str, dict[str, float | None]] = {}
        for name, series in metrics.items():
            task, _, metric = name.partition("/")
            if task in AP_TASKS and metric:
                found.setdefault(task, {})[metric] = dict(series).get(iteration)
        return found
    file = run_dir / "results.json"
    if file.is_file():
        loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {task: loaded[task] for task in AP_TASKS if task in loaded}
    return {}


def tabulate_results(results: Results) -> str:
    """Formats metrics by task as a table of AP in percent; "-" where undefined."""
    rows = [
        [name, *(_percent(results[task].get(column)) for column in _COLUMNS)]
        for task, name in AP_TASKS.items()
        if task in results
    ]
    return tabulate(
        rows,
        headers=["", *_COLUMNS],
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", *("right" for _ in _COLUMNS)),
    )


def choose_evenly(records: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Picks records evenly spaced over all of them, the first always among them."""
    count = min(count, len(records))
    return [records[index * len(records) // count] for index in range(count)]


def describe_sources(files: Sequence[str]) -> str:
    """Lists images with the text on licence and source that lies with their data set.

    That text is the first ``SOURCES.txt`` in the folder of an image or above it.
    """
    files_by_text: dict[Path | None, list[str]] = {}
    for file in files:
        candidates = [folder / "SOURCES.txt" for folder in Path(file).resolve().parents]
        text = next((candidate for candidate in candidates if candidate.is_file()), None)
        files_by_text.setdefault(text, []).append(file)
    parts = []
    for text, members in files_by_text.items():
        about = (
            text.read_text(encoding="utf-8")
            if text
            else "No SOURCES.txt lies with these images: their licence is that of your data.\n"
        )
        listing = "".join(f"  {Path(member).name}\n" for member in members)
        parts.append(f"Images shown in contact_sheet.png:\n\n{listing}\n{about}")
    return f"\n{'-' * 80}\n\n".join(parts)


def _evaluate(cfg: DictConfig, run_dir: Path, checkpoint: Path, device: str) -> Results:
    _logger.info("%s holds no evaluation of %s; it is made now.", run_dir, checkpoint.name)
    cfg = copy.deepcopy(cfg)
    cfg.train.init_checkpoint = str(checkpoint)
    cfg.train.output_dir = str(run_dir)
    # What set_up_run would resolve, but that would also replace the run's own config.yaml.
    cfg.train.device = str(choose_device(device))
    cfg.train.seed = resolve_seed(cfg.train.seed)
    return evaluate_checkpoint(cfg)


def _examples(predictor: Predictor, records: Sequence[dict[str, Any]]) -> dict[str, Example]:
    """Reads images and finds their objects; the keys are the image files."""
    examples = {}
    for record in records:
        file = record["file_name"]
        try:
            image = read_image(file)
            predictions = predictor(image)
        except UnusableImageError as error:
            _logger.warning("%s is not shown: %s", file, error)
            continue
        annotations = record.get("annotations", [])
        examples[file] = Example(Path(file).name, image, annotations, predictions)
    return examples


def _in_short(results: Results) -> str:
    return ", ".join(
        f"{name} AP {_percent(results[task].get('AP'))}, AP50 {_percent(results[task].get('AP50'))}"
        for task, name in AP_TASKS.items()
        if task in results
    )


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
