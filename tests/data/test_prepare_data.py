"""The command-line tool that makes and checks data sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .conftest import Coco, Writer

REPOSITORY = Path(__file__).parents[2]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/prepare_data.py", *arguments],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_own_data_are_checked(coco: Coco, write_coco: Writer):
    coco["annotations"][0]["bbox"] = [1, 1, 0, 0]
    json_file, folder = write_coco(coco)
    result = _run("--check", str(json_file), "--images", str(folder))
    assert result.returncode == 0, result.stderr
    assert "6 images (0 without objects), 11 objects of 2 classes" in result.stdout
    assert "1 x box without area" in result.stdout


def test_mistakes_are_a_sentence(tmp_path: Path):
    missing = _run("--check", str(tmp_path / "none.json"))
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: there must be a COCO-format JSON at")
    unknown = _run("flowers")
    assert unknown.returncode == 2
    assert "name data sets of ['nuclei', 'scenes', 'trees']" in unknown.stderr
