"""The command-line tool that makes data sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_unknown_names_are_refused():
    result = subprocess.run(
        [sys.executable, "tools/prepare_data.py", "trees", "flowers"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "name data sets of ['nuclei', 'scenes', 'trees'], got ['flowers']" in result.stderr
