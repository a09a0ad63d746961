"""An editable installation is found from everywhere, the folder around the clone included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Without the packages of this environment, where piip_d2 is installed, too, and without PYTHONPATH.
_WITHOUT_PACKAGES = ("-S", "-E")
_WHERE = """
import sys
from importlib.util import find_spec
from site import addsitedir

addsitedir(sys.argv[1])
print(*(find_spec(name).origin for name in ("piip_d2", "piip_d2.configs")))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in a folder of the package's name, and beside it what pip installs of it."""
    folder = tmp_path_factory.mktemp("around")
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("piip_d2", "configs"):
        shutil.copytree(ROOT / name, folder / "piip_d2" / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / "piip_d2")
    subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta as b; b.build_editable('..')"],
        cwd=folder / "piip_d2",
        env={**os.environ, "PIIP_D2_BUILD": "off"},
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "piip_d2"


@pytest.mark.parametrize("folder", ["..", ".", "../site"])
def test_editable_installation_is_found_from_everywhere(clone: Path, folder: str) -> None:
    assert _found_from(clone / folder, clone) == [
        str(clone / "piip_d2" / "__init__.py"),
        str(clone / "configs" / "__init__.py"),
    ]


def test_package_of_the_folder_goes_before_an_editable_installation(
    clone: Path, tmp_path: Path
) -> None:
    (tmp_path / "piip_d2").mkdir()
    (tmp_path / "piip_d2" / "__init__.py").touch()
    assert _found_from(tmp_path, clone)[0] == str(tmp_path / "piip_d2" / "__init__.py")


def _found_from(folder: Path, clone: Path) -> list[str]:
    """Paths of the package and of its configs for a program that is started in a folder."""
    command = [sys.executable, *_WITHOUT_PACKAGES, "-c", _WHERE, str(clone.parent / "site")]
    program = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return program.stdout.split()
