#!/usr/bin/env python
"""Trains or evaluates what a LazyConfig file describes.

    python train_net.py --config-file configs/quick/faster_rcnn_trees.py
    python train_net.py --config-file CONFIG --resume
    python train_net.py --config-file CONFIG --eval-only train.init_checkpoint=model_final.pth

Everything in the config can be changed by ``path.to.key=value`` behind the options.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from detectron2.engine import default_argument_parser
from omegaconf import DictConfig

from piip_d2.data.loader import DataLoadingError
from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import (
    environment_report,
    evaluate_checkpoint,
    launch,
    load_config,
    set_up_run,
    train,
)
from piip_d2.engine.run_log import FILE_LOGGER

# What a user can do something about, and is told in one sentence.
_MISTAKES = (ValueError, OSError, ImportError, FloatingPointError, DataLoadingError)


def build_parser() -> argparse.ArgumentParser:
    """Returns Detectron2's parser with the additions of this script."""
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument("--version", action="store_true", help="describe the environment and exit")
    # A fixed port, which is Detectron2's default, lets no two runs share a machine.
    parser.set_defaults(dist_url="auto")
    return parser


def run(args: argparse.Namespace) -> None:
    """Does in one process what the command line says."""
    cfg = load_config(args.config_file, args.opts)
    apply_data_section(cfg)
    cfg.train.device = _device(args, cfg)
    if args.eval_only:
        # What the training wrote into its folder stays as it is.
        cfg.train.output_dir = str(Path(cfg.train.output_dir) / "evaluation")
    config_text = set_up_run(cfg)
    if args.eval_only:
        evaluate_checkpoint(cfg, config_text)
    else:
        train(cfg, config_text, resume=args.resume)


def main(args: argparse.Namespace) -> None:
    """Runs, and turns mistakes in the input into one sentence."""
    try:
        run(args)
    except _MISTAKES as error:
        if logging.getLogger(FILE_LOGGER).handlers:
            logging.getLogger(FILE_LOGGER).error("The run failed.", exc_info=True)
        raise SystemExit(f"error: {_sentence(error)}") from None
    except KeyboardInterrupt:
        raise SystemExit("Ended by Ctrl-C.") from None


def start(args: argparse.Namespace) -> None:
    """Starts the processes that the command line asks for, each of which runs :func:`main`."""
    if args.version:
        print(environment_report())
        return
    try:
        device = _device(args, load_config(args.config_file, args.opts))
        if args.num_gpus > 1 and not (torch.cuda.is_available() and device != "cpu"):
            print(f"No GPU is used: {args.num_gpus} processes share the CPU.")
        launch(
            main,
            args.num_gpus,
            device=device,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except _MISTAKES as error:
        raise SystemExit(f"error: {_sentence(error)}") from None


def _device(args: argparse.Namespace, cfg: DictConfig) -> str:
    return "cpu" if args.num_gpus == 0 else str(cfg.train.device)


def _sentence(error: Exception) -> str:
    text = str(error)
    if isinstance(error, DataLoadingError):
        # What comes from a worker has its traceback in front.
        text = text.rpartition(f"{DataLoadingError.__name__}: ")[2].split("\n")[0]
    return text


if __name__ == "__main__":
    start(build_parser().parse_args())
