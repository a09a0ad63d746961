"""Training and evaluation from beginning to end."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.config import instantiate
from detectron2.engine import HookBase
from detectron2.engine.hooks import IterationTimer, LRScheduler
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from piip_d2.data.loader import TrainLoader
from piip_d2.engine.build import (
    build_ema,
    build_model,
    build_optimizer,
    build_precision,
    build_train_loader,
    build_trainer,
)
from piip_d2.engine.checkpointer import AtomicCheckpointer, BestWeightsCheckpointer
from piip_d2.engine.compilation import compile_as_configured
from piip_d2.engine.data_report import log_training_data
from piip_d2.engine.earlier_run import put_earlier_run_aside, undo_interrupted_move
from piip_d2.engine.ema import EMAHook, ExponentialMovingAverage
from piip_d2.engine.environment import save_config
from piip_d2.engine.evaluation import Evaluation
from piip_d2.engine.first_process import in_first_process
from piip_d2.engine.fully_sharded import check_fsdp, shards_model
from piip_d2.engine.hooks import (
    BestWeightsHook,
    CheckpointHook,
    EarlyStoppingHook,
    EvaluationHook,
    MemoryHook,
)
from piip_d2.engine.interruption import Interruption, TrainingInterrupted
from piip_d2.engine.metadata import check_num_classes, describe_run, differences
from piip_d2.engine.run_log import find_run_log
from piip_d2.engine.sharded_checkpointer import (
    ShardedBestWeightsCheckpointer,
    ShardedCheckpointer,
)
from piip_d2.engine.sharded_evaluation import ShardedEvaluation
from piip_d2.engine.starting_point import load_start
from piip_d2.engine.starting_weights import (
    check_initial_checkpoint,
    check_starting_weights,
    check_weights_of_detector,
)
from piip_d2.engine.test_time_augmentation import tta_scales
from piip_d2.engine.trainer import Trainer
from piip_d2.engine.writers import MetricsHook, build_writers

logger = logging.getLogger(__name__)


def train(cfg: DictConfig, config_text: str = "", *, resume: bool = False) -> dict[str, Any]:
    """Trains, evaluates and saves a model; :func:`set_up_run` must have run before.

    Args:
        cfg: The configuration.
        config_text: The configuration as YAML, for ``config.yaml`` and the checkpoints; "" makes
            no such file.
        resume: Whether to go on from the last checkpoint in the output folder, if there is one.

    Returns:
        The metrics of the last evaluation, in the main process.

    Raises:
        CheckpointSaveError: If the last checkpoint could not be saved.
        ValueError: If the configuration, the data or a checkpoint does not fit.
    """
    _check_start(cfg, resume=resume)
    is_sharded = shards_model(cfg)
    evaluation = ShardedEvaluation(cfg, build_precision(cfg)) if is_sharded else Evaluation(cfg)
    model = build_model(cfg, sharded=is_sharded)
    compile_as_configured(cfg, model)
    ema = build_ema(cfg, model)
    trainer = build_trainer(cfg, model, build_optimizer(cfg, model))
    checkpointer = _checkpointer(cfg, trainer, model, ema)
    best_type = ShardedBestWeightsCheckpointer if is_sharded else BestWeightsCheckpointer
    best = best_type(model, cfg.train.output_dir, None if evaluation.weights == "model" else ema)
    results: dict[str, Any] = {}

    def evaluate_now() -> dict[str, Any]:
        results.clear()
        results.update(evaluation(model, ema))
        return results

    with Interruption() as interruption:
        keep = cfg.train.checkpointer
        checkpoints = CheckpointHook(
            checkpointer, keep.period, keep.get("max_to_keep", None), interruption
        )
        trainer.register_hooks(_hooks_up_to_checkpoint(cfg, ema, checkpoints))
        trainer.register_hooks_after_checkpoint(_evaluation_hooks(cfg, evaluate_now, best))
        saved = load_start(cfg, checkpointer, resume=resume)
        if ema and ema.num_updates == 0:
            ema.reset()
        start = trainer.next_iteration
        cfg.train.seed = trainer.seed
        trainer.use_data_loader(build_train_loader(cfg, first_iteration=start))
        log_training_data(cfg, model, trainer.data_loader)
        # Only now are the data sets registered whose class names it takes.
        metadata = describe_run(cfg, model, config_text)
        checkpointer.metadata = best.metadata = metadata
        _compare(saved, metadata, model)
        _take_folder(cfg.train.output_dir, start, config_text)
        trainer.register_hooks_after_checkpoint(_writer_hooks(cfg, trainer))
        try:
            _train(trainer, start, cfg.train.max_iter, checkpointer)
        finally:
            if isinstance(trainer.data_loader, TrainLoader):
                trainer.data_loader.report_unusable()
    checkpoints.raise_if_unsaved()
    return results


def evaluate_checkpoint(cfg: DictConfig, config_text: str = "") -> dict[str, Any]:
    """Evaluates the weights in ``train.init_checkpoint``; :func:`set_up_run` must have run before.

    Args:
        cfg: The configuration.
        config_text: The configuration as YAML, for ``config.yaml``; "" makes no such file.

    Returns:
        The metrics by task, in the main process.

    Raises:
        ValueError: If there are no weights, unless an empty ``train.init_checkpoint`` was typed, or
            if the configuration, the data or the weights do not fit.
    """
    path = cfg.train.init_checkpoint
    check_weights_of_detector(cfg)
    check_initial_checkpoint(path)
    evaluation = Evaluation(cfg, augments=True)
    model = build_model(cfg)
    compile_as_configured(cfg, model)
    saved: dict[str, Any] = {}
    ema = None
    if path:
        # The evaluation itself chooses between the weights and their moving average.
        saved = AtomicCheckpointer(model).load_for("evaluate", path, prefer_average=False)
        if saved.get("ema"):
            ema = ExponentialMovingAverage(model)
            ema.load_state_dict(saved["ema"])
    else:
        logger.warning("train.init_checkpoint is empty: random weights are evaluated.")
    _compare(saved, describe_run(cfg, model, config_text), model)
    in_first_process(lambda: save_config(cfg.train.output_dir, config_text))
    return evaluation(model, ema)


def _check_start(cfg: DictConfig, *, resume: bool) -> None:
    """Checks what can be known before there is a model, with the folder as a run left it."""
    in_first_process(lambda: undo_interrupted_move(cfg.train.output_dir))
    for name, least in (("max_iter", 1), ("accumulate", 1), ("log_period", 1), ("eval_period", 0)):
        number = cfg.train[name]
        if not isinstance(number, int) or number < least:
            raise ValueError(
                f"train.{name} must be at least {least} and a whole number, got {number!r}"
            )
    tta_scales(cfg)
    check_fsdp(cfg)
    resumes = resume and AtomicCheckpointer(nn.Identity(), cfg.train.output_dir).has_checkpoint()
    if not resumes:
        check_starting_weights(cfg)


def _checkpointer(
    cfg: DictConfig, trainer: Trainer, model: nn.Module, ema: ExponentialMovingAverage | None
) -> AtomicCheckpointer:
    folder = cfg.train.output_dir
    if cfg.train.fsdp.enabled:
        # Also for one process: any number of processes goes on where another one ended.
        return ShardedCheckpointer(model, folder, trainer=trainer, ema=ema)
    parts = {"trainer": trainer} | ({"ema": ema} if ema else {})
    return AtomicCheckpointer(model, folder, **parts)


def _compare(saved: dict[str, Any], present: dict[str, Any], model: nn.Module) -> None:
    """Compares a model with its data, and the run with the checkpoint it starts from."""
    check_num_classes(model, present["class_names"])
    for sentence in differences(saved.get("metadata") or {}, present):
        logger.warning("Mind that %s.", sentence)


def _hooks_up_to_checkpoint(
    cfg: DictConfig, ema: ExponentialMovingAverage | None, checkpoints: CheckpointHook
) -> list[HookBase | None]:
    return [
        IterationTimer(),
        LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        EMAHook(ema) if ema else None,
        MemoryHook(),
        checkpoints,
    ]


def _evaluation_hooks(
    cfg: DictConfig, evaluate_now: Any, best: BestWeightsCheckpointer
) -> list[HookBase]:
    if "evaluator" not in cfg.dataloader:
        return []
    period = cfg.train.eval_period
    hooks: list[HookBase] = [EvaluationHook(period, evaluate_now)]
    if cfg.train.best.enabled:
        hooks.append(BestWeightsHook(period, best, cfg.train.best.metric, cfg.train.best.mode))
    stopping = cfg.train.early_stopping
    if stopping.enabled:
        hooks.append(
            EarlyStoppingHook(
                period, stopping.metric, stopping.mode, stopping.patience, stopping.min_delta
            )
        )
    return hooks


def _writer_hooks(cfg: DictConfig, trainer: Trainer) -> list[HookBase]:
    if not comm.is_main_process():
        return []
    period = cfg.train.log_period
    writers = build_writers(
        cfg.train.output_dir,
        cfg.train.max_iter,
        window_size=period,
        first_iteration=trainer.first_unwritten_iteration,
        tensorboard=cfg.train.tensorboard,
    )
    return [MetricsHook(writers, period)]


def _take_folder(folder: str, start: int, config_text: str) -> None:
    """Puts an earlier run in the folder aside, unless this one goes on with it."""
    starts = comm.all_gather(start)
    if len(set(starts)) > 1:
        raise ValueError(
            f"the processes would start at different iterations ({starts}): {folder} must hold the "
            "same checkpoints on all machines"
        )
    # All processes have passed here, so have loaded what they start from, even if it moves now.
    log = find_run_log()
    logs = comm.all_gather((log.path.name, log.start) if log else None)

    def take() -> None:
        if start == 0:
            put_earlier_run_aside(folder, dict(filter(None, logs)))
        save_config(folder, config_text)

    in_first_process(take)
    if log:
        log.start = 0


def _train(trainer: Trainer, start: int, max_iter: int, checkpointer: AtomicCheckpointer) -> None:
    if start >= max_iter:
        logger.info("All %d iterations are done; only the evaluation is repeated.", max_iter)
    else:
        logger.info("Training from iteration %d to %d.", start, max_iter)
    try:
        trainer.train(start, max_iter)
    except TrainingInterrupted as ending:
        logger.warning("%s", ending)
        raise
    except Exception:
        last = checkpointer.get_checkpoint_file()
        logger.exception(
            "Training failed at iteration %d. %s",
            trainer.iter,
            f"The last checkpoint is {last}; --resume goes on from there."
            if last
            else "No checkpoint has been saved.",
        )
        raise
