"""Runs of the toy configuration, in this process or in one that can be killed."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import socket
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from piip_d2.data.overrides import apply_data_section
from piip_d2.engine import launch, load_config, set_up_run, train
from piip_d2.engine.run_log import FILE_LOGGER, close_run_log
from tests.engine.toys import ToyEvaluator

CONFIG = str(Path(__file__).with_name("toy_config.py"))
SCREEN = "screen.txt"

# What may differ between two equal runs.
_CLOCKS = ("time", "data_time", "rank_data_time", "eta_seconds", "[metric]max_rss_mb")

# One clean server forks the children, which then need not import anything again.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["piip_d2.engine", "tests.engine.toys"])


@contextlib.contextmanager
def undone_process_state() -> Iterator[None]:
    """Undoes at the end what a run changes in its process."""
    precision = torch.get_float32_matmul_precision()
    yield
    close_run_log()
    for name in ("fvcore", "detectron2", "piip_d2", FILE_LOGGER):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # It remembers which handlers it has added.
    setup_logger.cache_clear()
    torch.set_float32_matmul_precision(precision)
    ToyEvaluator.scripted = None


class Job(NamedTuple):
    """A training in one folder."""

    folder: Path
    overrides: Sequence[str] = ()
    resume: bool = False
    config: str = CONFIG

    def screens(self) -> list[Path]:
        """Where its output is, if it has begun."""
        return list(self.folder.glob(SCREEN))


def toy_config(folder: Path, *overrides: str) -> DictConfig:
    """The toy configuration with its output in ``folder``."""
    return load_config(CONFIG, [*overrides, f"train.output_dir={folder}"])


def run_toy(folder: Path, *overrides: str, resume: bool = False) -> dict[str, Any]:
    """Trains the toy in this process and returns its last metrics."""
    return run(folder, *overrides, resume=resume)


def run(
    folder: Path, *overrides: str, resume: bool = False, config: str = CONFIG
) -> dict[str, Any]:
    """Trains what a configuration describes in this process and returns its last metrics."""
    cfg = load_config(config, [*overrides, f"train.output_dir={folder}"])
    apply_data_section(cfg)
    return train(cfg, set_up_run(cfg), resume=resume)


def start_toy(folder: Path, *overrides: str, resume: bool = False) -> BaseProcess:
    """Starts to train the toy in a process of its own; its output goes to ``screen.txt``."""
    process = _CONTEXT.Process(target=_run_quietly, args=(folder, overrides, resume))
    process.start()
    return process


def run_toy_in_two_processes(folder: Path, *overrides: str, resume: bool = False) -> None:
    """Trains the toy in two processes that were started as torchrun does it."""
    run_in_processes(2, Job(folder, overrides, resume))


def run_in_processes(count: int, *jobs: Job) -> None:
    """Does one job after the other in processes that were started as torchrun does it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = [
        _CONTEXT.Process(target=_run_as_rank, args=(rank, count, port, jobs))
        for rank in range(count)
    ]
    for process in group:
        process.start()
    for process in group:
        process.join()
    screens = "".join(screen.read_text() for job in jobs for screen in job.screens())
    assert [process.exitcode for process in group] == [0] * count, screens


def metric_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.json`` without what depends on the clock."""
    lines = (folder / "metrics.json").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in entry.items() if k not in _CLOCKS and "inference/" not in k}
        for entry in entries
    ]


def _run_as_rank(rank: int, count: int, port: int, jobs: Sequence[Job]) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    # The number of processes is torchrun's, not this one.
    launch(_run_jobs, 1, args=(jobs,))


def _run_jobs(jobs: Sequence[Job]) -> None:
    for job in jobs:
        _run_quietly(*job)


def _run_quietly(
    folder: Path, overrides: Sequence[str], resume: bool, config: str = CONFIG
) -> None:
    torch.set_num_threads(1)
    # A child of the server inherits its way of starting processes, which is slow for workers.
    multiprocessing.set_start_method("fork", force=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        open(folder / SCREEN, "a") as screen,
        contextlib.redirect_stdout(screen),
        contextlib.redirect_stderr(screen),
        undone_process_state(),
    ):
        run(folder, *overrides, resume=resume, config=config)
