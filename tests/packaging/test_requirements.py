"""The pinned files are complete, and agree with what the package declares."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

FOLDER = Path(__file__).resolve().parents[2] / "requirements"
FILES = ("build.txt", "torch.txt", "runtime.txt", "detectron2.txt", "dev.txt", "docs.txt")


def _pins(file: str) -> dict[str, str]:
    """Version of every package that a file names."""
    text = (FOLDER / file).read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found = re.fullmatch(r"([a-z0-9-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})+)", line)
            assert found, f"{file}: not a pin with its hashes: {line}"
            pins[found.group(1)] = found.group(2)
    return pins


ALL_PINS = {file: _pins(file) for file in FILES}


def test_files_are_all_there_is() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == set(FILES)


def test_no_package_is_pinned_twice() -> None:
    names = [name for pins in ALL_PINS.values() for name in pins]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("file", "pin"),
    [
        ("torch.txt", ("torch", "2.14.1")),
        ("torch.txt", ("torchvision", "0.29.2")),
        ("build.txt", ("setuptools", "81.0.0")),
        ("runtime.txt", ("omegaconf", "2.3.1")),
        ("runtime.txt", ("antlr4-python3-runtime", "4.9.3")),
    ],
)
def test_packages_that_must_not_move(file: str, pin: tuple[str, str]) -> None:
    assert pin in ALL_PINS[file].items()


def test_pins_satisfy_what_the_package_declares() -> None:
    try:
        declared = metadata.requires("piip_d2") or []
    except metadata.PackageNotFoundError:
        pytest.skip("piip_d2 is not installed")
    versions = {name: version for pins in ALL_PINS.values() for name, version in pins.items()}
    assert declared
    for line in declared:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[requirement.name]), line


def test_package_declares_what_it_always_imports() -> None:
    setup = (FOLDER.parent / "setup.py").read_text(encoding="utf-8")
    found = re.search(r"install_requires=\[(.*?)\n    \]", setup, flags=re.DOTALL)
    assert found
    declared = {Requirement(line).name for line in re.findall(r'^ *"(.+?)"', found.group(1), re.M)}
    imported: set[str] = set()
    for path in (FOLDER.parent / "piip_d2").rglob("*.py"):
        # Imports that stand further in are of what is optional, or only for type checkers.
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            imported.update(name.partition(".")[0] for name in names)
    distributions = {"PIL": "pillow", "hydra": "hydra-core"}
    known = sys.stdlib_module_names | {"piip_d2", "detectron2"}
    assert {distributions.get(name, name) for name in imported - known} <= declared


def test_what_extras_want_is_pinned() -> None:
    setup = (FOLDER.parent / "setup.py").read_text(encoding="utf-8")
    found = re.search(r"extras_require=\{(.*?)\n    \}", setup, flags=re.DOTALL)
    assert found
    wanted = [Requirement(text) for text in re.findall(r'"([^"]+)"(?=[,\]])', found.group(1))]
    versions = {name: version for pins in ALL_PINS.values() for name, version in pins.items()}
    assert {"onnxruntime", "faster-coco-eval", "mkdocs-material"} <= {each.name for each in wanted}
    assert not [each for each in wanted if not each.specifier.contains(versions[each.name])]


def test_package_declares_neither_opencv_nor_detectron2() -> None:
    setup = (FOLDER.parent / "setup.py").read_text(encoding="utf-8")
    declared = re.search(r"install_requires=\[(.*?)\n    \]", setup, flags=re.DOTALL)
    assert declared
    assert not re.search(r'"(opencv|detectron2|sal-detectron2)', declared.group(1))
