"""The installer stops with sentences that name the way out, and redoes only what it must."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
LOG = Path("install.log")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("checks", monkeypatch)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("install", monkeypatch)


@pytest.fixture
def steps_done(install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Replaces the steps by ones that only note their names, on a repository of text files."""
    done: list[str] = []

    def replace(name: str) -> None:
        def step(self: object) -> None:
            done.append(name)
            if name == "environment":
                self.python.parent.mkdir(parents=True)  # type: ignore[attr-defined]
                self.python.touch()  # type: ignore[attr-defined]

        monkeypatch.setattr(install.Installer, f"_install_{name}", step)

    for name, _, inputs in install.Installer.STEPS:
        replace(name)
        for file in inputs:
            if "." in file:
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(name)
    monkeypatch.setattr(install, "REPOSITORY", tmp_path)
    monkeypatch.setattr(install, "GIGABYTES_FOR_TORCH", 0.0)
    monkeypatch.setattr(install, "GIGABYTES_FOR_THE_REST", 0.0)
    return done


ALL_STEPS = ["environment", "build", "torch", "runtime", "detectron2", "dev", "docs", "package"]


@pytest.mark.parametrize("version", [(3, 11), (3, 12, 1), (3, 13)])
def test_pinned_pythons_are_taken(checks: ModuleType, version: tuple[int, ...]) -> None:
    checks.check_platform(version, "Linux", "x86_64")


@pytest.mark.parametrize(
    ("version", "system", "machine", "message"),
    [
        ((3, 8), "Linux", "x86_64", r"Python 3\.8 is too old.*make PYTHON=python3\.11"),
        ((3, 10), "Linux", "x86_64", r"Python 3\.10 is too old.*package itself.*README\.md"),
        ((3, 14), "Linux", "x86_64", r"Python 3\.14 is too new.*3\.11 or 3\.12 or 3\.13"),
        ((3, 11), "Darwin", "arm64", r"not Darwin on arm64.*environment of your own"),
    ],
)
def test_other_platforms_are_refused(
    checks: ModuleType, version: tuple[int, int], system: str, machine: str, message: str
) -> None:
    with pytest.raises(checks.InstallError, match=message):
        checks.check_platform(version, system, machine)


def test_full_disk_is_seen_before_the_download(checks: ModuleType) -> None:
    checks.check_disk(9.1, 9.0, Path("here"))
    with pytest.raises(checks.InstallError, match=r"about 9\.0 GB in here, and 2\.5 GB.*VENV="):
        checks.check_disk(2.5, 9.0, Path("here"))


def test_missing_compiler_is_no_more_than_a_note(
    checks: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert checks.compiler_advice(tmp_path) == ""
    (tmp_path / "op.cpp").touch()
    assert "apt-get install g++" in checks.compiler_advice(tmp_path)


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (
            "WARNING: Retrying after connection broken by 'NameResolutionError(\"...\")'\n"
            "ERROR: Could not find a version that satisfies the requirement pip==26.3\n",
            r"could not be downloaded\. Check the network",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", r"not the one that was pinned"),
        ("OSError: [Errno 28] No space left on device", r"disk is full\. Free some space"),
        ("ERROR: No matching distribution found for torch==2.14.1", r"glibc 2\.28 or newer"),
        ("error: command '/usr/bin/g++' failed with exit code 1", r"apt-get install g\+\+"),
        ("RuntimeError: Error compiling objects for extension", r"neither FORCE_CUDA nor PIIP_D2"),
        ("piip_d2 cannot be compiled: there is no nvcc", r"neither FORCE_CUDA nor PIIP_D2_BUILD"),
    ],
)
def test_what_pip_says_is_explained(checks: ModuleType, output: str, advice: str) -> None:
    assert re.search(advice, checks.explain("Collecting pytest-timeout==2.4.0\n" + output, LOG))
    assert "install.log" in checks.explain(output, LOG)


def test_what_is_not_foreseen_is_shown(checks: ModuleType) -> None:
    assert "the end of it" in checks.explain("much\nthe end of it\n", LOG)


def test_second_run_does_nothing(
    install: ModuleType, steps_done: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install.Installer(tmp_path / "venv").run()
    assert steps_done == ALL_STEPS
    assert capsys.readouterr().out.count(" ... done in ") == len(ALL_STEPS)
    install.Installer(tmp_path / "venv").run()
    assert steps_done == ALL_STEPS
    assert capsys.readouterr().out == ""


def test_only_the_changed_step_is_redone(
    install: ModuleType, steps_done: list[str], tmp_path: Path
) -> None:
    install.Installer(tmp_path / "venv").run()
    (tmp_path / "requirements" / "dev.txt").write_text("changed")
    install.Installer(tmp_path / "venv").run()
    assert steps_done == [*ALL_STEPS, "dev"]


def test_interrupted_installation_begins_anew(
    install: ModuleType, steps_done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(install.Installer, "_install_runtime", killed)
        with pytest.raises(KeyboardInterrupt):
            install.Installer(tmp_path / "venv").run()
    (tmp_path / "venv" / "half_a_package").touch()
    install.Installer(tmp_path / "venv").run()
    assert steps_done == [*ALL_STEPS[:3], *ALL_STEPS]
    assert not (tmp_path / "venv" / "half_a_package").exists()


def test_foreign_environment_is_left_alone(
    install: ModuleType, steps_done: list[str], tmp_path: Path
) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "theirs").touch()
    with pytest.raises(install.InstallError, match=r"was not made by this program.*VENV="):
        install.Installer(tmp_path / "venv").run()
    assert steps_done == []


def test_existing_detectron2_is_respected(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_pip(self: object, *arguments: str) -> None:
        raise AssertionError("nothing may be installed")

    monkeypatch.setattr(install.Installer, "_pip", no_pip)
    installer = install.Installer(tmp_path / "venv")
    monkeypatch.setattr(installer, "_output", lambda program: "their/detectron2/__init__.py")
    assert installer._install_detectron2() == "already there, left as it is: their/detectron2"


def test_what_was_not_compiled_is_told(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output = "  running build_ext\n  piip_d2: no CUDA, as so\n  piip_d2: no CUDA, as so\n"
    monkeypatch.setattr(install.Installer, "_pip", lambda self, *arguments: output)
    assert install.Installer(tmp_path)._install_package() == "done; no CUDA, as so"
    monkeypatch.setattr(install.Installer, "_pip", lambda self, *arguments: "")
    assert install.Installer(tmp_path)._install_package() == ""


def test_caches_are_no_change_of_the_sources(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "REPOSITORY", tmp_path)
    (tmp_path / "csrc" / "__pycache__").mkdir(parents=True)
    (tmp_path / "csrc" / "op.cpp").write_text("before")
    before = install.digest(("csrc",))
    (tmp_path / "csrc" / "__pycache__" / "op.pyc").write_text("new")
    assert install.digest(("csrc",)) == before
    (tmp_path / "csrc" / "op.cpp").write_text("after")
    assert install.digest(("csrc",)) != before


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports a module of ``requirements/`` as the script does: from its own folder."""
    monkeypatch.syspath_prepend(str(REQUIREMENTS))
    for module in ("checks", "install"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__(name)
