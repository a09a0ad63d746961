"""A small detector for the tests of the predictor."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig

from piip_d2.engine import AtomicCheckpointer
from piip_d2.predictor import Predictor

CONFIG = Path(__file__).parents[1] / "visualization" / "small_config.py"


@pytest.fixture(autouse=True)
def _log_reaches_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    # Detectron2's setup_logger, called by other tests, cuts a logger off from the root.
    monkeypatch.setattr(logging.getLogger("piip_d2"), "propagate", True)


@pytest.fixture(scope="module")
def cfg() -> DictConfig:
    return LazyConfig.load(str(CONFIG))


@pytest.fixture(scope="module")
def checkpoint(cfg: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("weights")
    checkpointer = AtomicCheckpointer(instantiate(cfg.model), str(folder))
    checkpointer.metadata = {"class_names": ["cat", "dog"], "pixel_mean": [1.0, 2.0, 3.0]}
    checkpointer.save("small")
    return folder / "small.pth"


@pytest.fixture(scope="module")
def predictor(cfg: DictConfig, checkpoint: Path) -> Predictor:
    return Predictor(cfg, checkpoint)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
