"""The wheel holds one stable binary and works where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    *("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"),
    *("CHANGELOG.md", "piip_d2", "configs"),
)
_PROGRAM = """
import torch
import piip_d2
from piip_d2.configs import list_configs
from piip_d2.ops import has_extension, ms_deform_attn

locations, weights = torch.full((1, 3, 2, 1, 1, 2), 0.5), torch.full((1, 3, 2, 1, 1), 0.5)
output = ms_deform_attn(torch.ones(1, 4, 2, 1), [(2, 2)], locations, weights)
print(piip_d2.__file__, has_extension(), output.unique().tolist(), len(list_configs()) > 0)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler"),
]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built as the documents say."""
    checkout = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, checkout)
    environment = {**os.environ, "PIIP_D2_BUILD": "required", "FORCE_CUDA": "0"}
    command = [sys.executable, "-m", "build", "--no-isolation"]
    subprocess.run(command, cwd=checkout, env=environment, check=True)
    return checkout / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_sources_can_be_compiled_from_their_archive(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    sources = (ROOT / "piip_d2" / "csrc").rglob("*")
    assert {
        path.relative_to(ROOT).as_posix()
        for path in sources
        if path.is_file() and "__pycache__" not in path.parts
    } <= names


def test_wheel_is_for_every_python_and_has_no_sources(wheel: Path) -> None:
    assert re.search(r"-cp310-abi3-(?!any)\w+\.whl$", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert "piip_d2/_C.abi3.so" in names
    assert not [name for name in names if "csrc" in name]


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm")
def test_binary_asks_for_the_stable_interfaces_alone(wheel: Path, tmp_path: Path) -> None:
    binary = zipfile.ZipFile(wheel).extract("piip_d2/_C.abi3.so", tmp_path)
    command = ["nm", "-D", "--undefined-only", binary]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    # Behind an @ stands the version of the C or C++ library; w is for what may be missing.
    undefined = {line.split()[1] for line in lines if "@" not in line and line.split()[0] == "U"}
    stable = re.compile(r"(aoti_)?torch_\w+|Py\w+")
    assert undefined
    assert not [name for name in undefined if not stable.fullmatch(name)]


def test_wheel_works_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    expected = [str(tmp_path / "site" / "piip_d2" / "__init__.py"), "True", "[0.5]", "True"]
    _check_installed(wheel, tmp_path, _PROGRAM, expected)


_PREDICTION = """
import numpy, piip_d2, piip_d2.configs

name = "quick/faster_rcnn_scenes"
assert "model" in piip_d2.get_config(name)
overrides = ["train.init_checkpoint=", "dataloader.test.dataset.names=[nothing]"]
predictor = piip_d2.Predictor(name, device="cpu", overrides=overrides)
size = predictor(numpy.zeros((60, 90, 3), numpy.uint8)).image_size
print(piip_d2.configs.__file__, *size)
"""


def test_published_configs_work_by_name_where_the_wheel_is_installed(
    wheel: Path, tmp_path: Path
) -> None:
    expected = [str(tmp_path / "site" / "piip_d2" / "configs" / "__init__.py"), "60", "90"]
    _check_installed(wheel, tmp_path, _PREDICTION, expected)


def _check_installed(wheel: Path, folder: Path, program: str, expected: list[str]) -> None:
    """Installs a wheel into a folder, and compares the words that a program prints there."""
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == expected, result.stderr
