"""Evaluating a model as the configuration says."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig
from torch import nn

from piip_d2._atomic_file import write_text_atomically
from piip_d2.engine.ema import ExponentialMovingAverage
from piip_d2.engine.inference_costs import InferenceCosts
from piip_d2.engine.overrides import accepts_argument
from piip_d2.engine.test_time_augmentation import TestTimeAugmentation
from piip_d2.evaluation.results import without_many_classes, without_nan
from piip_d2.evaluation.tables import results_table

logger = logging.getLogger(__name__)

_WEIGHTS = ("ema", "model", "both")


class Evaluation:
    """Evaluates a model on the test data, as often as it is called.

    The test data and their annotations are read at once, so that a mistake in them shows before
    the training and not after it.

    Args:
        cfg: The configuration; ``train.ema.evaluate`` says which weights count.
        augments: Whether ``train.tta`` counts, which multiplies the time.

    Raises:
        ValueError: If ``train.ema.evaluate`` is none of the choices, or test-time augmentation is
            wanted and does not fit the data.
    """

    def __init__(self, cfg: DictConfig, *, augments: bool = False) -> None:
        self.weights = str(cfg.train.ema.evaluate)
        if self.weights not in _WEIGHTS:
            raise ValueError(f"train.ema.evaluate must be one of {_WEIGHTS}, got {self.weights!r}")
        self.is_wanted = "evaluator" in cfg.dataloader
        self._folder = Path(cfg.train.output_dir)
        self._augmentation: TestTimeAugmentation | None = None
        if not self.is_wanted:
            logger.info("The config has no dataloader.evaluator: nothing will be evaluated.")
            return
        if augments and cfg.train.tta.enabled:
            self._augmentation = TestTimeAugmentation(cfg)
        _set_evaluator_folder(cfg)
        self._loader = instantiate(cfg.dataloader.test)
        evaluators = instantiate(cfg.dataloader.evaluator)
        self._costs = InferenceCosts(torch.device(cfg.train.device))
        listed = evaluators if isinstance(evaluators, Sequence | ListConfig) else [evaluators]
        self._evaluator = DatasetEvaluators([*listed, self._costs])

    def __call__(
        self, model: nn.Module, ema: ExponentialMovingAverage | None = None
    ) -> dict[str, Any]:
        """Evaluates and writes ``results.json`` into the output folder; all processes call it.

        Args:
            model: The model, not wrapped for data parallelism.
            ema: The moving average of its weights, if there is one.

        Returns:
            Metrics by task, as Detectron2's evaluators return them, and time and memory under
            "inference", in the main process and nothing in the others. With "both", those of the
            model's own weights stand under "model". Of tasks with more than 100 classes, those of
            single classes are in the file alone.
        """
        if not self.is_wanted:
            return {}
        if ema is None or self.weights == "model":
            results = self._evaluate_weights(model)
        else:
            logger.info("Evaluating the moving average of the weights.")
            with ema.applied():
                results = self._evaluate_weights(model)
            if self.weights == "both":
                logger.info("Evaluating the weights themselves.")
                own = self._evaluate_weights(model)
                results = {**results, "model": own} if results else {}
        if comm.is_main_process() and results:
            written = without_nan(results)
            # A name is no metric, for which tables and curves have a place.
            written.get("inference", {})["device_name"] = self._costs.device_name
            text = json.dumps(written, indent=2)
            # A training that began meanwhile may have moved it aside.
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text_atomically(self._folder / "results.json", text + "\n")
        # What is returned gets a line of metrics.json and a curve in TensorBoard for each number.
        return without_many_classes(results)

    def _evaluate_weights(self, model: nn.Module) -> dict[str, Any]:
        if self._augmentation:
            logger.info("Every image is predicted in %d views.", self._augmentation.num_views)
            model = self._augmentation.wrap(model)
        results: dict[str, Any] = inference_on_dataset(
            model, self._loader, self._evaluator, self._costs.callbacks
        )
        if comm.is_main_process():
            print_csv_format(results)
            logger.info("Results:\n%s", results_table(results))
        comm.synchronize()
        return results


def _set_evaluator_folder(cfg: DictConfig) -> None:
    """Lets the evaluator write its detections below the output folder, if it names no other."""
    evaluator = cfg.dataloader.evaluator
    unset = isinstance(evaluator, DictConfig) and evaluator.get("output_dir", None) is None
    if unset and accepts_argument(evaluator, "output_dir"):
        evaluator["output_dir"] = f"{cfg.train.output_dir}/inference"
