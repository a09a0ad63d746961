"""Importing is cheap, and parts of the package need no more than they use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "detectron2", "timm", "cv2", "fvcore", "omegaconf", "matplotlib")

_BLOCKER = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("blocked for the test: " + name, name=name)

sys.meta_path.insert(0, Blocker())
"""


def run_without(blocked: tuple[str, ...], program: str) -> subprocess.CompletedProcess[str]:
    """Runs ``program`` in a new interpreter that cannot import ``blocked``."""
    code = _BLOCKER.format(blocked=set(blocked)) + program
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        ("piip_d2", HEAVY),
        ("piip_d2.ops, piip_d2.layers", HEAVY[1:]),
        ("piip_d2.modeling.backbone", ("detectron2", "cv2", "omegaconf", "matplotlib")),
    ],
)
def test_modules_need_no_more_than_they_use(modules: str, blocked: tuple[str, ...]) -> None:
    result = run_without(blocked, f"import {modules}")
    assert result.returncode == 0, result.stderr


def test_blocker_blocks() -> None:
    result = run_without(("torch",), "import piip_d2.ops")
    assert "blocked for the test: torch" in result.stderr


def test_version_and_names_are_there_without_torch() -> None:
    program = "import piip_d2; print(piip_d2.__version__, *dir(piip_d2))"
    result = run_without(HEAVY, program)
    assert re.match(r"\d+\.\d+\.\d+", result.stdout)
    assert {"PIIP", "PIIPFPN", "PIIPNetwork", "ms_deform_attn"} <= set(result.stdout.split())


def test_modeling_registers_the_backbones_without_opencv() -> None:
    program = (
        "import piip_d2.modeling\n"
        "from detectron2.modeling import BACKBONE_REGISTRY as registry\n"
        "print('PIIP' in registry, 'PIIPFPN' in registry)"
    )
    result = run_without(("cv2", "matplotlib"), program)
    assert result.stdout.split() == ["True", "True"], result.stderr


def test_configs_are_a_package_of_the_installation() -> None:
    program = "import piip_d2.configs as c; print(len(c.list_configs()))"
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if "No module named 'piip_d2'" in result.stderr:
        pytest.skip("piip_d2 is not installed")
    assert int(result.stdout) > 0, result.stderr


def test_unknown_name_is_an_attribute_error() -> None:
    import piip_d2

    with pytest.raises(AttributeError, match="'piip_d2' has no attribute 'PIIPs'"):
        piip_d2.PIIPs  # noqa: B018
