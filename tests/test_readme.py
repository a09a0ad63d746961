"""Everything that README.md and docs/ tell to type works, and what they state is so."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from piip_d2.data.checks import check_coco
from tests.documents.markdown import DOCUMENTS, ROOT, Step, blocks, prose, steps
from tests.documents.preloaded import PreloadedPython
from tests.documents.rules import shorten
from tests.documents.workspace import make_workspace

STEPS = steps(DOCUMENTS)
# Starting these takes longer than what they do.
SLOW_PROGRAMS = ("torchrun",)


class Reader:
    """Types the steps one after the other, in a folder with all they need.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path, python: PreloadedPython) -> None:
        self._folder = folder
        self._python = python
        self._failures: dict[Step, str] = {}

    def follow(self, step: Step) -> str:
        """Types a step, after those before it; returns what is wrong with it, if anything."""
        for earlier in STEPS[: STEPS.index(step)]:
            if not _is_slow(earlier):
                self._once(earlier)
        return self._once(step)

    def _once(self, step: Step) -> str:
        if step not in self._failures:
            self._failures[step] = self._run(step)
        return self._failures[step]

    def _run(self, step: Step) -> str:
        number = STEPS.index(step)
        output = self._folder / f"step{number}.txt"
        if step.program:
            # A program that says in its first line what it is called is used later.
            name = re.match(r"# (\w+\.py)\n", step.program)
            script = self._folder / (name[1] if name else f"step{number}.py")
            script.write_text(step.program)
            status = self._python.run(script, (), output)
        else:
            short = shorten(step.words)
            if short is None:
                return ""
            if short.script == "torchrun":
                status = self._torchrun(short.arguments, output)
            else:
                status = self._python.run(Path(short.script), short.arguments, output)
        return f"exit status {status}:\n{output.read_text()[-3000:]}" if status else ""

    def _torchrun(self, arguments: tuple[str, ...], output: Path) -> int:
        command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *arguments]
        with open(output, "w") as file:
            return subprocess.call(
                command, cwd=self._folder, env=_environment(), stdout=file, stderr=file
            )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("checkout")
    make_workspace(folder)
    with PreloadedPython(folder, _environment()) as python:
        yield Reader(folder, python)


def _environment() -> dict[str, str]:
    own = {"DETECTRON2_DATASETS": "datasets", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}


def _is_slow(step: Step) -> bool:
    return step.words[:1] in [(name,) for name in SLOW_PROGRAMS]


def _as_parameter(step: Step) -> object:
    return pytest.param(step, id=step.place, marks=[pytest.mark.slow] if _is_slow(step) else [])


@pytest.mark.parametrize("step", [_as_parameter(step) for step in STEPS])
def test_step(step: Step, reader: Reader) -> None:
    failure = reader.follow(step)
    assert not failure, f"{step.place} {' '.join(step.words)}\n{failure}"


def test_there_are_steps_of_every_kind() -> None:
    programs = {" ".join(step.words[:2]) for step in STEPS if step.words}
    wanted = {"make demo", "make test", "python train_net.py", "python demo.py", "pip install"}
    assert wanted <= programs
    assert any(step.program for step in STEPS)


def test_blocks_are_of_known_kinds() -> None:
    kinds = {block.language for document in DOCUMENTS for block in blocks(document)}
    # "sh" has commands of packages that are not installed here.
    known = {"bash", "python", "text", "bibtex", "json", "sh"}
    assert kinds <= known, "unmarked blocks escape the tests"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith(("http://", "https://")):
            file, _, section = target.partition("#")
            path = document.parent / file if file else document
            assert path.exists(), target
            assert not section or section in _sections(path), target


def _sections(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_text_exist(document: Path) -> None:
    folders = "piip_d2|configs|tools|tests|docs|requirements"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(document)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_numbers_are_filled_in(document: Path) -> None:
    assert not re.findall(r"@@\w+@@|\bGAP\b", document.read_text(encoding="utf-8"))


def test_installation_has_a_heading() -> None:
    # Messages of the installer send people there.
    assert "installation" in _sections(ROOT / "README.md")


def test_model_table_says_what_the_configs_say() -> None:
    rows = dict(
        re.findall(r"^\| \[(\w+)\]\(.*?\) \| (.+) \|$", (ROOT / "README.md").read_text(), re.M)
    )
    assert len(rows) > 4
    for name, row in rows.items():
        _, sizes, _, flops, box_ap, mask_ap = row.split(" | ")
        file = ROOT / "configs" / "mask_rcnn" / f"{name}.py"
        stated = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        assert f"_{sizes.replace(', ', '_')}_" in name
        assert f"box AP {box_ap} and mask AP {mask_ap}" in stated
        if "GFLOPs" in stated:
            assert f" at {flops} GFLOPs;" in stated


def test_example_of_a_json_is_accepted(tmp_path: Path) -> None:
    examples = [block for path in DOCUMENTS for block in blocks(path) if block.language == "json"]
    assert examples
    for example in examples:
        content = json.loads(example.text)
        for image in content["images"]:
            size = (image["width"], image["height"])
            Image.new("RGB", size).save(tmp_path / image["file_name"])
        summary = check_coco(content, tmp_path / "example.json", tmp_path)[1]
        assert summary.num_masks == len(content["annotations"])
        assert not summary.problems


@pytest.mark.slow
def test_published_config_starts_on_a_cpu(tmp_path: Path) -> None:
    trial = next(step.words for step in STEPS if "data.train=nuclei_train" in step.words)
    # As it stands, on the real data.
    command = [sys.executable, *trial[1:], f"train.output_dir={tmp_path}"]
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "results.json").is_file()
    # Gigabytes that pytest would keep.
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["trees", "scenes"])
def test_make_demo(data: str, tmp_path: Path) -> None:
    start = time.monotonic()
    command = ["make", "demo", f"DATA={data}", f"RUN_DIR={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    pictures = re.findall(r": (\S+\.png)$", result.stdout, flags=re.MULTILINE)
    assert len(pictures) == 2 and all(Path(picture).is_file() for picture in pictures)
    assert "AP50" in result.stdout
    print(f"make demo DATA={data}: {time.monotonic() - start:.0f} s")
