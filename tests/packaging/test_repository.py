"""Rules of the repository that a script can see."""

from __future__ import annotations

import ast
import functools
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
MAX_EXPERIMENT_LINES = 20
MAX_README_LINES = 200
MAX_CONTRIBUTING_LINES = 60

# What each part of the package may import from the others; nothing points back.
# Everything may import the first two and the package itself (for its version).
MAY_IMPORT: dict[str, set[str]] = {
    "_atomic_file": set(),
    "_optional": set(),
    "csrc": set(),
    "ops": set(),
    "layers": {"ops"},
    "config": set(),
    "modeling": {"config", "layers", "ops"},
    "checkpoint": {"modeling", "layers"},
    "data": set(),
    "evaluation": set(),
    "solver": set(),
    "engine": {"checkpoint", "data", "evaluation", "modeling", "ops", "solver"},
    "analysis": {"checkpoint", "data", "engine", "layers", "modeling", "ops"},
    "backbones": {"checkpoint", "modeling"},
    "predictor": {"checkpoint", "data", "engine", "modeling"},
    "export": {"modeling", "ops"},
    "visualization": {"analysis", "data", "engine", "layers", "modeling", "ops", "predictor"},
    "configs": {"checkpoint", "data", "engine", "evaluation", "modeling", "solver"},
}

SKIPPED_FOLDERS = {"datasets", "output", "build", "dist", "golden", "__pycache__"}
TEXT_SUFFIXES = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".sh", ".h", ".cpp", ".cu", ".cuh"}

# Written in pieces, so that this file does not break its own rules.
FORBIDDEN_TEXT = {
    "a path of one machine": "/" + r"(?:work|home|Users|root|tmp/venv)/\w",
    "an install source": r"(?:extra-)?index" + r"-url|find" + r"-links",
    "an open end": r"\bTO" + r"DO\b|\bFIX" + r"ME\b|\bX" + r"XX\b",
}


@functools.cache
def _all_files() -> list[Path]:
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        found += [Path(folder) / name for name in files]
    return sorted(found)


def _is_skipped(folder: str) -> bool:
    hidden = folder.startswith(".") and folder != ".ci"
    return hidden or folder in SKIPPED_FOLDERS or folder.endswith(".egg-info")


def _files(*suffixes: str) -> list[Path]:
    return [path for path in _all_files() if path.suffix in suffixes]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _num_lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


PYTHON_FILES = _files(".py")


def test_there_is_something_to_check() -> None:
    names = {_name(path) for path in PYTHON_FILES}
    assert {"setup.py", "piip_d2/__init__.py", "tests/conftest.py"} <= names


def test_files_are_short() -> None:
    files = _files(".py", ".cpp", ".cu", ".cuh", ".h")
    long = [
        f"{_name(path)}: {_num_lines(path)}" for path in files if _num_lines(path) > MAX_FILE_LINES
    ]
    assert not long, f"more than {MAX_FILE_LINES} lines"


def test_functions_are_short() -> None:
    long = []
    for path in PYTHON_FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{_name(path)}:{node.lineno} {node.name}: {lines}")
    assert not long, f"more than {MAX_FUNCTION_LINES} lines"


def test_experiments_are_short() -> None:
    files = [path for path in (ROOT / "configs").glob("*/*.py") if path.parent.name != "common"]
    assert files
    long = []
    for path in files:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        if len(lines) > MAX_EXPERIMENT_LINES:
            long.append(f"{_name(path)}: {len(lines)}")
    assert not long, f"more than {MAX_EXPERIMENT_LINES} lines that are not empty"


@pytest.mark.parametrize(
    ("name", "limit"),
    [("README.md", MAX_README_LINES), ("CONTRIBUTING.md", MAX_CONTRIBUTING_LINES)],
)
def test_documents_are_short(name: str, limit: int) -> None:
    assert _num_lines(ROOT / name) <= limit


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_forbidden_text(what: str) -> None:
    pattern = re.compile(FORBIDDEN_TEXT[what])
    plain = [ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / ".pre-commit-config.yaml"]
    hits = []
    for path in [*_files(*TEXT_SUFFIXES), *plain]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.search(line):
                hits.append(f"{_name(path)}:{number}: {line.strip()}")
    assert not hits, what


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = re.compile(r"^(utils?|misc|helpers?|common_utils|tools_?utils)$")
    names = {_name(path) for path in PYTHON_FILES if vague.match(path.stem)}
    names |= {_name(path) for path in PYTHON_FILES if vague.match(path.parent.name)}
    assert not names


def test_imports_point_one_way() -> None:
    wrong = []
    for path in _files(".py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] not in ("piip_d2", "configs") or parts == ("piip_d2", "__init__"):
            continue
        package = ("piip_d2", *parts[:-1]) if parts[0] == "configs" else parts[:-1]
        part = "configs" if parts[0] == "configs" else parts[1]
        if part not in MAY_IMPORT:
            wrong.append(f"{_name(path)}: say in MAY_IMPORT what {part} may import")
            continue
        imported = _imported_parts(path, package) - {part, "", "_atomic_file", "_optional"}
        wrong += [f"{_name(path)} imports {name}" for name in sorted(imported - MAY_IMPORT[part])]
    assert not wrong


def test_arrows_have_no_cycle() -> None:
    remaining = dict(MAY_IMPORT)
    while remaining:
        leaves = {name for name, imports in remaining.items() if not imports & set(remaining)}
        assert leaves, f"a cycle among {sorted(remaining)}"
        remaining = {name: imports for name, imports in remaining.items() if name not in leaves}


def _imported_parts(path: Path, package: tuple[str, ...]) -> set[str]:
    """Parts of piip_d2 that a file imports, "" for the package itself."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "piip_d2":
                public = [alias.name for alias in node.names]
                modules += [f"piip_d2.{name}" if name in MAY_IMPORT else module for name in public]
            else:
                modules.append(module)
    ours = [module.split(".") for module in modules]
    return {(module + [""])[1] for module in ours if module[0] == "piip_d2"}
