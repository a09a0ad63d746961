"""The numbers of LVIS, https://arxiv.org/abs/1908.03195, counted by faster-coco-eval.

The package ``lvis``, which Detectron2's evaluator calls, has names of NumPy that went with
version 1.24. It is not needed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from piip_d2 import _optional
from piip_d2.evaluation.coco import Entry, PIIPCOCOEvaluator

_PACKAGE = "faster_coco_eval"


class PIIPLVISEvaluator(PIIPCOCOEvaluator):
    """What Detectron2's LVISEvaluator measures, with recall, and AP of every class in a file.

    An image of LVIS is annotated for some of the classes alone: detections of others neither count
    as right nor as wrong. APr, APc and APf are of rare, common and frequent classes (Sec. 3 of the
    paper).

    Args:
        dataset_name: A registered data set in LVIS' format.
        tasks: "bbox", "segm" or both; None for what the model predicts.
        distributed: Whether the predictions of all processes are gathered.
        output_dir: Folder for detections and the numbers of the classes; None for none.
        max_dets_per_image: Detections of an image that count, all classes together.

    Raises:
        ImportError: If faster-coco-eval is not installed.
        ValueError: If the annotations lack what LVIS' format has beyond COCO's.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int = 300,
    ) -> None:
        package = _optional.require(_PACKAGE, "the evaluation of LVIS")
        super().__init__(
            dataset_name,
            tasks,
            distributed,
            output_dir,
            implementation="faster",
            max_dets_per_image=max_dets_per_image,
        )
        dataset = self._coco_api.dataset
        # Names of data that were given as files are made up.
        _check_format(dataset, self._metadata.get("source_json", dataset_name))
        # Annotations without area are none to LVIS.
        annotations = [entry for entry in dataset.get("annotations", []) if entry["area"] > 0]
        self._do_evaluation = bool(annotations)
        self._coco_api = package.COCO({**dataset, "annotations": annotations})
        self._max_dets_per_image = [max_dets_per_image]
        # Which classes an image was looked through for.
        self._annotated = {(entry["image_id"], entry["category_id"]) for entry in annotations}
        self._annotated |= {
            (image["id"], number)
            for image in dataset["images"]
            for number in image["neg_category_ids"]
        }

    def _make_evaluation(self, detections: Any, task: str) -> Any:
        return self._counter(
            self._coco_api, detections, task, lvis_style=True, print_function=print
        )

    def _counted(self, entries: list[Entry]) -> list[Entry]:
        """Returns the best detections of each image, of classes it is annotated for."""
        by_image = defaultdict(list)
        for entry in entries:
            by_image[entry["image_id"]].append(entry)
        best: list[Entry] = []
        for found in by_image.values():
            found.sort(key=lambda entry: -entry["score"])
            best += found[: self._max_dets_per_image[-1]]
        return [
            entry
            for entry in best
            if (entry["image_id"], entry["category_id"]) in self._annotated and _area(entry) > 0
        ]

    def _metric_names(self) -> list[str]:
        precisions = ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
        return [*precisions, f"AR{self._max_dets_per_image[-1]}", "ARs", "ARm", "ARl"]

    def _numbers(self, evaluation: Any) -> list[float]:
        sizes = ("small", "medium", "large")
        names = [
            *("AP_all", "AP_50", "AP_75", *(f"AP_{size}" for size in sizes)),
            *("APr", "APc", "APf", "AR_all", *(f"AR_{size}" for size in sizes)),
        ]
        numbers = evaluation.stats_as_dict
        return [float(numbers[name]) for name in names]

    def _category_ids(self) -> Mapping[int, int]:
        if self._metadata.get("thing_dataset_id_to_contiguous_id") is not None:
            return super()._category_ids()
        # As Detectron2 registers LVIS.
        return {number - 1: number for number in self._coco_api.getCatIds()}


def _check_format(dataset: Mapping[str, Any], name: str) -> None:
    for part, key in (("categories", "frequency"), ("images", "neg_category_ids")):
        lacking = sum(key not in entry for entry in dataset[part])
        if lacking:
            raise ValueError(
                f"the evaluation of LVIS needs {key!r} in each of the {part}, but {lacking} of "
                f"{len(dataset[part])} in {name} lack it; data in COCO's format are evaluated by "
                "piip_d2.evaluation.PIIPCOCOEvaluator"
            )
    annotations = dataset.get("annotations", [])
    lacking = sum(not isinstance(entry.get("area"), int | float) for entry in annotations)
    if lacking:
        raise ValueError(
            "the evaluation of LVIS needs 'area', a number of pixels, in each of the annotations, "
            f"but {lacking} of {len(annotations)} in {name} lack it. A JSON that data.val or "
            "piip_d2.data.register_coco_json names gets what it lacks"
        )


def _area(entry: Entry) -> float:
    if "bbox" in entry:
        return float(entry["bbox"][2] * entry["bbox"][3])
    return float(coco_mask.area(entry["segmentation"]))
