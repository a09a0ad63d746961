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

import torch
from detectron2.engine import default_argument_parser

from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import (
    environment_report,
    evaluate_checkpoint,
    launch,
    load_config,
    set_up_run,
    train,
)
from piip_d2.engine.environment import FILE_LOGGER


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
    if args.num_gpus == 0:
        cfg.train.device = "cpu"
    config_text = set_up_run(cfg)
    if args.eval_only:
        evaluate_checkpoint(cfg, config_text)
    else:
        train(cfg, config_text, resume=args.resume)


def main(args: argparse.Namespace) -> None:
    """Runs, and turns mistakes in the input into one sentence."""
    try:
        run(args)
    except (ValueError, OSError, ImportError) as error:
        if logging.getLogger(FILE_LOGGER).handlers:
            logging.getLogger(FILE_LOGGER).error("The run failed.", exc_info=True)
        raise SystemExit(f"error: {error}") from None


def start(args: argparse.Namespace) -> None:
    """Starts the processes that the command line asks for, each of which runs :func:`main`."""
    if args.version:
        print(environment_report())
        return
    if args.num_gpus > 1 and not torch.cuda.is_available():
        print(f"No GPU here: {args.num_gpus} processes share the CPU.")
    try:
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    start(build_parser().parse_args())
