"""COCO's numbers of boxes and masks, with recall and for every class, counted in C++ or Python."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets

from piip_d2 import _optional
from piip_d2._atomic_file import write_text_atomically
from piip_d2.evaluation.results import MOST_CLASSES_SHOWN, without_nan
from piip_d2.evaluation.tables import per_class_table

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

IMPLEMENTATIONS = ("auto", "faster", "pycocotools")
_FASTER = "faster_coco_eval"
_TASKS = ("bbox", "segm")
_IOU_50 = 0


class PIIPCOCOEvaluator(COCOEvaluator):
    """Detectron2's COCOEvaluator, with recall, classes one by one, and a choice of who counts.

    Its AP are Detectron2's. Added are AR1, AR10 and AR100 (recall with so many detections per
    class and image), ARs, ARm and ARl, AR of each class beside its AP, and ``per_class.json`` in
    the output folder. An object whose annotation has the id 0 counts as any other; in pycocotools
    it can never be found.

    Args:
        dataset_name: A registered data set.
        tasks: "bbox", "segm" or both; None for what the model predicts. With "keypoints" all is
            left to Detectron2.
        distributed: Whether the predictions of all processes are gathered.
        output_dir: Folder for detections and the numbers of the classes; None for none.
        implementation: Who counts: "faster" (faster-coco-eval), "pycocotools", or "auto", which is
            the first of the two that is installed. Their numbers are equal.
        max_dets_per_image: Detections per class and image that count; None for COCO's 100.
        **kwargs: Other arguments of Detectron2's class.

    Raises:
        ImportError: If the wanted implementation is not installed.
        ValueError: If ``implementation`` or ``tasks`` is unknown.
    """

    _coco_api: Any

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        implementation: str = "auto",
        max_dets_per_image: int | None = None,
        **kwargs: Any,
    ) -> None:
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {IMPLEMENTATIONS}, got {implementation!r}"
            )
        unknown = set(tasks or ()) - {*_TASKS, "keypoints"}
        if unknown:
            raise ValueError(f"tasks must be among {_TASKS}, got {sorted(unknown)}")
        if implementation == "auto":
            implementation = "faster" if _optional.available(_FASTER) else "pycocotools"
        self.implementation = implementation
        # Looked up now, so that a missing package shows before the first image.
        self._counter = (
            _optional.require(_FASTER, "evaluation by implementation='faster'").COCOeval_faster
            if implementation == "faster"
            else COCOevalMaxDets
        )
        super().__init__(
            dataset_name,
            tasks=None if tasks is None else list(tasks),
            distributed=distributed,
            output_dir=output_dir,
            max_dets_per_image=max_dets_per_image,
            use_fast_impl=False,
            **kwargs,
        )
        if 0 in self._coco_api.anns:
            # Both implementations take 0, where they note which object was found, for "none".
            for number, entry in enumerate(self._coco_api.dataset["annotations"], start=1):
                entry["id"] = number
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco_api.createIndex()

    def _eval_predictions(
        self, predictions: list[Entry], img_ids: Sequence[int] | None = None
    ) -> None:
        """Fills ``self._results``; called by Detectron2's ``evaluate`` in the main process."""
        entries = [entry for prediction in predictions for entry in prediction["instances"]]
        tasks = sorted(self._tasks or self._tasks_from_predictions(entries))
        if "keypoints" in tasks:
            super()._eval_predictions(predictions, img_ids)
            return
        entries = self._with_category_ids(entries)
        if self._output_dir:
            text = json.dumps(entries)
            write_text_atomically(Path(self._output_dir) / "coco_instances_results.json", text)
        if not self._do_evaluation:
            logger.info("The data set has no annotations: only the detections are written.")
            return
        start = time.perf_counter()
        classes: dict[str, list[Entry]] = {}
        for task in tasks:
            self._results[task], classes[task] = self._measure(entries, task, img_ids)
        seconds = time.perf_counter() - start
        logger.info("Counted by %s in %.1f seconds.", self.implementation, seconds)
        if self._output_dir:
            text = json.dumps(without_nan(classes), indent=1)
            write_text_atomically(Path(self._output_dir) / "per_class.json", text + "\n")

    def _measure(
        self, entries: list[Entry], task: str, img_ids: Sequence[int] | None
    ) -> tuple[dict[str, float], list[Entry]]:
        """Returns the numbers of a task in percent, and those of its classes one by one."""
        chosen = self._counted(_of_task(entries, task))
        if not chosen:
            logger.warning("The model found nothing: there is no AP of task %s.", task)
            return dict.fromkeys(self._metric_names(), math.nan), []
        evaluation = self._count(chosen, task, img_ids)
        numbers = {
            name: _percent(value)
            for name, value in zip(self._metric_names(), self._numbers(evaluation), strict=True)
        }
        classes = self._classes(evaluation)
        if len(classes) > MOST_CLASSES_SHOWN:
            logger.info("%s: AP and AR of %d classes: per_class.json.", task, len(classes))
        elif len(classes) > 1:
            logger.info("%s, class by class:\n%s", task, per_class_table(classes))
        if len(classes) > 1:
            for metric in ("AP", "AR"):
                numbers |= {f"{metric}-{row['name']}": row[metric] for row in classes}
        return numbers, classes

    def _count(self, entries: list[Entry], task: str, img_ids: Sequence[int] | None) -> Any:
        """Returns the evaluation of a task, with its summary in the log."""
        # Both print while they work; of that only the summary is of interest.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = self._make_evaluation(self._coco_api.loadRes(entries), task)
            evaluation.params.maxDets = list(self._max_dets_per_image)
            if img_ids is not None:
                evaluation.params.imgIds = list(img_ids)
            evaluation.evaluate()
            evaluation.accumulate()
        with contextlib.redirect_stdout(io.StringIO()) as summary:
            evaluation.summarize()
        logger.info("%s:\n%s", task, summary.getvalue().rstrip())
        return evaluation

    def _make_evaluation(self, detections: Any, task: str) -> Any:
        options = {"print_function": print} if self.implementation == "faster" else {}
        return self._counter(self._coco_api, detections, task, **options)

    def _counted(self, entries: list[Entry]) -> list[Entry]:
        """Returns the detections that count; COCO leaves the choice to the evaluation itself."""
        return entries

    def _metric_names(self) -> list[str]:
        recalls = [f"AR{limit}" for limit in self._max_dets_per_image]
        return ["AP", "AP50", "AP75", "APs", "APm", "APl", *recalls, "ARs", "ARm", "ARl"]

    def _numbers(self, evaluation: Any) -> list[float]:
        """Returns the values of ``_metric_names`` as fractions, -1 where there are no objects."""
        return [float(value) for value in evaluation.stats[:12]]

    def _classes(self, evaluation: Any) -> list[Entry]:
        """Returns name, number of objects, AP, AP50 and AR of each class, in percent."""
        # Of all sizes, at the highest number of detections. IoU x recall x class; IoU x class.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        recall = evaluation.eval["recall"][:, :, 0, -1]
        objects = Counter(
            entry["category_id"]
            for entry in self._coco_api.anns.values()
            if not entry.get("iscrowd", 0)
        )
        return [
            {
                "name": self._coco_api.cats[number]["name"],
                "objects": objects[number],
                "AP": _percent(_mean(precision[:, :, index])),
                "AP50": _percent(_mean(precision[_IOU_50, :, index])),
                "AR": _percent(_mean(recall[:, index])),
            }
            for index, number in enumerate(evaluation.params.catIds)
        ]

    def _with_category_ids(self, entries: list[Entry]) -> list[Entry]:
        """Returns detections with the data set's own ids in the place of class indices."""
        numbers = self._category_ids()
        unknown = {entry["category_id"] for entry in entries} - set(numbers)
        if unknown:
            raise ValueError(
                f"predicted classes must be below {len(numbers)}, the number of classes of "
                f"{self._metadata.name}, got {max(unknown)}; the model was made for other data"
            )
        return [{**entry, "category_id": numbers[entry["category_id"]]} for entry in entries]

    def _category_ids(self) -> Mapping[int, int]:
        indices = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if indices is None:
            return {number: number for number in self._coco_api.getCatIds()}
        return {index: number for number, index in indices.items()}


def _of_task(entries: list[Entry], task: str) -> list[Entry]:
    """Returns copies, which the evaluation may add to."""
    if task == "bbox":
        return [dict(entry) for entry in entries]
    # With a box, a mask would count as small or large by the area of the box.
    return [{key: value for key, value in entry.items() if key != "bbox"} for entry in entries]


def _mean(values: Any) -> float:
    counted = values[values > -1]
    return float(np.mean(counted)) if counted.size else -1.0


def _percent(fraction: float) -> float:
    return 100 * fraction if fraction >= 0 else math.nan
