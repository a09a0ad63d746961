"""torchrun starts a run again whose worker was killed, and it goes on from its checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.runs import CONFIG, Job, metric_lines, run_in_processes

ROOT = Path(__file__).resolve().parents[2]


def _torchrun(folder: Path, *overrides: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "--max-restarts=1", "train_net.py", "--config-file", CONFIG]
    command += ["--resume", *overrides, f"train.output_dir={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Each start of the group says once who it is.
    assert (folder / "log.txt").read_text().count("Process 1 of 2") == 2


@pytest.mark.slow
@pytest.mark.parametrize("is_sharded", [True, False])
def test_killed_worker(tmp_path: Path, is_sharded: bool) -> None:
    overrides = [f"train.fsdp.enabled={is_sharded}", "train.fsdp.param_dtype=fp32"]
    # Position 34 is in the ninth iteration, one behind the second checkpoint.
    grave = tmp_path / "grave"
    deadly = ["dataloader.train.deadly=34", f"dataloader.train.grave={grave}"]
    _torchrun(tmp_path / "killed", *overrides, *deadly)
    assert grave.exists()
    run_in_processes(2, Job(tmp_path / "whole", overrides))
    killed, whole = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)["model"]
        for name in ("killed", "whole")
    )
    for name, weight in whole.items():
        assert torch.equal(weight, killed[name]), name
    ours, theirs = (json.dumps(metric_lines(tmp_path / name)) for name in ("killed", "whole"))
    assert ours == theirs
