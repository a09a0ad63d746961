"""The Makefile's commands name files that exist, and its mistakes are sentences."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    # Without the flags of the make that may be running these tests.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_help_is_the_default_and_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert phony
    listed = re.findall(r"^  make (\w+)  \S", _make().stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted(phony.group(1).split())


@pytest.mark.parametrize("data", ["trees", "scenes"])
def test_demo_trains_and_summarizes_one_run(data: str) -> None:
    commands = _make("-n", "demo", f"DATA={data}").stdout
    training = re.search(r"train_net\.py --config-file (\S+) .*output_dir=(\S+)", commands)
    summary = re.search(r"tools/summarize_run\.py --config-file (\S+) --run-dir (\S+)", commands)
    assert training and summary
    assert training.groups() == summary.groups()
    assert (ROOT / training.group(1)).is_file()


def test_unknown_data_is_refused_before_anything_is_installed() -> None:
    result = _make("-n", "demo", "DATA=coco")
    assert result.returncode != 0
    assert "DATA=coco is unknown: choose DATA=trees or DATA=scenes" in result.stderr
    assert result.stdout == ""
