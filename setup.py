"""Metadata of the package; ``piip_d2/csrc/extension.py`` describes its compiled operators.

Beside an existing PyTorch: ``pip install --no-build-isolation -e .``
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import setuptools
from setuptools import find_namespace_packages, setup

# As in pyproject.toml, which counts for nothing where pip does not isolate the build.
if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"piip_d2 is built by setuptools>=77, got {setuptools.__version__}; "
        'pip install "setuptools>=77,<82" brings it'
    )

from setuptools.command.editable_wheel import editable_wheel  # noqa: E402

ROOT = Path(__file__).resolve().parent

# Build tools run this file from anywhere, without its folder among those to import from.
sys.path.insert(0, str(ROOT / "piip_d2" / "csrc"))

from extension import extensions  # noqa: E402

# Python asks the finder of an editable installation last. A clone is a folder named piip_d2, which
# in the folder around it passes for a package without code before that finder is asked.
FINDER_BEFORE_FOLDERS = """

class BeforeFolders:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "piip_d2":
            return None
        found = PathFinder.find_spec(name, path)
        return found if found and found.loader else _EditableFinder.find_spec(name)
"""


class EditableWheel(editable_wheel):
    """Lets an editable installation be found from the folder that holds the clone, too.

    A line with the clone's path (``editable_mode=compat``) would do that as well, but it would make
    ``configs``, ``tests`` and ``tools`` packages for all other programs, and hide
    ``piip_d2.configs``.
    """

    def _select_strategy(self, *arguments: Any) -> Any:
        strategy = super()._select_strategy(*arguments)
        generate = getattr(strategy, "get_implementation", None)

        def generate_both() -> Iterator[tuple[str, bytes]]:
            for name, content in generate():
                if name.endswith(".py"):
                    finder = name.removesuffix(".py")
                    content += FINDER_BEFORE_FOLDERS.encode()
                else:
                    line = f"; import sys; sys.meta_path.insert(0, {finder}.BeforeFolders)"
                    content += line.encode()
                yield name, content

        # The other kinds of editable installation, which one has to ask for, have none.
        if generate:
            strategy.get_implementation = generate_both
        return strategy


def version() -> str:
    """Reads ``__version__`` without importing the package."""
    text = (ROOT / "piip_d2" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError('piip_d2/__init__.py must have a line __version__ = "..."')
    return found.group(1)


def packages() -> list[str]:
    """Lists the package and, as ``piip_d2.configs``, the folder ``configs`` beside it."""
    hidden = ["*__pycache__*", "piip_d2.csrc*"]
    code = find_namespace_packages(include=["piip_d2", "piip_d2.*"], exclude=hidden)
    folders = find_namespace_packages("configs", exclude=hidden)
    return [*code, "piip_d2.configs", *(f"piip_d2.configs.{name}" for name in folders)]


compiled = extensions()
commands = {**compiled.pop("cmdclass", {}), "editable_wheel": EditableWheel}

setup(
    name="piip_d2",
    version=version(),
    description="Parameter-Inverted Image Pyramid Networks (PIIP) as Detectron2 backbones",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=packages(),
    package_dir={"piip_d2.configs": "configs"},
    # Neither Detectron2, which has no release that pip could choose, nor OpenCV, whose packages
    # "opencv-python" and "opencv-python-headless" overwrite each other: whoever has one keeps it.
    install_requires=[
        "torch>=2.10",
        "safetensors",
        "timm>=1.0.9",
        "fvcore>=0.1.5",
        "hydra-core>=1.1",
        "iopath>=0.1.7",
        "matplotlib>=3.6",
        "numpy>=1.23",
        "omegaconf>=2.1,<2.4",  # from 2.4 on, detectron2.config.instantiate skips tuples
        "pillow>=9.1",
        "pycocotools>=2.0.6",
        "scipy>=1.8",
        "setuptools<82",  # the last with pkg_resources, which detectron2.model_zoo imports
        "tabulate>=0.8.3",
        "yacs>=0.1.8",
    ],
    # lvis is not among them, as it would bring opencv-python: docs/EVALUATION.md says more.
    extras_require={
        "docs": ["ipykernel", "mkdocs>=1.6,<2", "mkdocs-material>=9.5", "nbclient", "nbformat"],
        "eval": ["faster-coco-eval>=1.8"],
        "export": ["onnx", "onnxruntime", "onnxscript"],
    },
    cmdclass=commands,
    **compiled,
)
