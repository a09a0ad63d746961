"""The notebook runs from top to bottom, and what is committed shows what it has shown."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.documents.markdown import ROOT
from tests.documents.rules import SHORT_TRAINING
from tests.documents.workspace import make_workspace

NOTEBOOK = ROOT / "docs" / "TUTORIAL.ipynb"
MAX_BYTES = 700_000
# Where paths of one machine begin.
_FOLDERS = ("home", "work", "root", "Users", "tmp")
# On two small images, for two steps. The longer training of the notebook's end becomes as short.
_SHORT = [
    *SHORT_TRAINING,
    "dataloader.train.mapper.augmentations.0.max_size=64",
    "dataloader.train.mapper.augmentations.0.short_edge_length=64",
]


# In the place of the notebook's own function: the same programs, in the process of the notebook,
# which has imported all that takes long.
_RUN_HERE = """
import contextlib, io, runpy
def run(command, *more):
    sys.argv = [*command.split(), *more]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
    return said.getvalue()
"""


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_runs_from_top_to_bottom(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workspace(tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # There are two images for validation.
    _insert_behind(notebook, "OVERRIDES = []", f"OVERRIDES, PLACE = {_SHORT!r}, 0")
    if quick:
        _insert_behind(notebook, "def run(command, *more):", _RUN_HERE)
    monkeypatch.setenv("DETECTRON2_DATASETS", "datasets")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    resources = {"metadata": {"path": str(tmp_path)}}
    # Raises with the cell and its traceback if one fails.
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


def test_committed_outputs_are_of_one_run() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.source]
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4


def test_notebook_is_small_and_of_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    beginnings = [f"{os.sep}{folder}{os.sep}" for folder in _FOLDERS]
    assert not [path for path in (*beginnings, str(ROOT)) if path in text]


def _insert_behind(notebook: nbformat.NotebookNode, line: str, source: str) -> None:
    """Puts a cell behind the one of code that has a line."""
    (place,) = [
        number
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and line in cell.source
    ]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))
