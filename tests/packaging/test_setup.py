"""What is compiled follows from the machine and the environment, and what is missing is said."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from setuptools import Distribution, Extension

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = (
    *("PIIP_D2_BUILD", "PIIP_D2_CXXFLAGS", "FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"),
    *("CUDA_HOME", "CUDA_PATH", "CXX"),
)

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that describes the build, on a machine with a compiler, but without a GPU."""
    spec = importlib.util.spec_from_file_location(
        "extension", ROOT / "piip_d2" / "csrc" / "extension.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(module, "gpu_is_seen", lambda: False)
    monkeypatch.setattr(module, "nvidia_packages", lambda major="": [])
    monkeypatch.setattr("torch.version.cuda", "13.0")
    # Set by what is tested; this puts it back.
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", None)
    monkeypatch.chdir(ROOT)
    return module


@pytest.fixture
def toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A CUDA toolkit, as far as setup looks at it, named by CUDA_HOME."""
    folder = tmp_path / "toolkit"
    for name in ("bin/nvcc", "include/cuda_runtime.h", "lib64/libcudart.so"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "bin/nvcc").write_text("#!/bin/sh\necho sm_75 sm_80 sm_90\n")
    (folder / "bin/nvcc").chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(folder))
    return folder


def _names(described: dict[str, list[Extension]]) -> list[str]:
    return [module.name for module in described.get("ext_modules", [])]


def test_old_setuptools_is_named(tmp_path: Path) -> None:
    (tmp_path / "setuptools.py").write_text(
        "__version__ = '63.4.3'\nfind_namespace_packages = setup = None\n"
    )
    program = subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert program.returncode == 1
    (message,) = program.stderr.splitlines()
    assert message.startswith("piip_d2 is built by setuptools>=77, got 63.4.3; pip install")
    wanted = re.search(r'"setuptools>=[^"]*"', (ROOT / "pyproject.toml").read_text())
    assert wanted and wanted[0] in message


def test_cpu_module_is_stable_and_has_no_cuda(extension: ModuleType) -> None:
    described = extension.extensions()
    (module,) = described["ext_modules"]
    assert module.name == "piip_d2._C" and module.py_limited_api
    assert "piip_d2/csrc/library.cpp" in module.sources
    assert not any("cuda" in source for source in module.sources)
    assert {"piip_d2/csrc/problem.h", "piip_d2/csrc/sampling.h"} <= set(module.depends)
    assert module.libraries == ["torch_cpu"]
    assert "-DTORCH_TARGET_VERSION=0x020a000000000000" in module.extra_compile_args["cxx"]
    assert described["options"] == {"bdist_wheel": {"py_limited_api": "cp310"}}


def test_own_flags_come_last(extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIIP_D2_CXXFLAGS", "-O1 '-DNAME=two words'")
    module = extension.cpu_module()
    assert module.extra_compile_args["cxx"][-2:] == ["-O1", "-DNAME=two words"]
    assert module.extra_link_args == ["-O1", "-DNAME=two words"]


def test_nothing_is_compiled_when_switched_off(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIIP_D2_BUILD", "off")
    assert extension.extensions() == {}
    monkeypatch.setenv("PIIP_D2_BUILD", "no")
    with pytest.raises(SystemExit, match=r"must be auto, required or off, got 'no'"):
        extension.extensions()


def test_missing_compiler_is_said_or_an_error(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -pipe")
    assert extension.extensions() == {}
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "not compiled, as there is no C++ compiler 'no-such-compiler'" in said
    monkeypatch.setenv("PIIP_D2_BUILD", "required")
    with pytest.raises(SystemExit, match=r"cannot be compiled: .*apt-get install g\+\+"):
        extension.extensions()


def test_missing_python_headers_are_named(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(extension.Obstacle, match=r"no Python\.h .*python3-dev"):
        extension.cpu_module()


def test_hidden_torch_is_named(extension: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(extension.Obstacle, match="--no-build-isolation"):
        extension.cpu_module()


def test_cuda_needs_a_gpu_or_force(
    extension: ModuleType, toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _names(extension.extensions()) == ["piip_d2._C"]
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert _names(extension.extensions()) == ["piip_d2._C", "piip_d2._C_cuda"]
    monkeypatch.delenv("FORCE_CUDA")
    monkeypatch.setattr(extension, "gpu_is_seen", lambda: True)
    assert _names(extension.extensions()) == ["piip_d2._C", "piip_d2._C_cuda"]
    monkeypatch.setenv("FORCE_CUDA", "0")
    assert _names(extension.extensions()) == ["piip_d2._C"]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("bin/nvcc", "no CUDA compiler nvcc in .*toolkit"),
        ("include/cuda_runtime.h", "cuda_runtime.h is neither in .*toolkit nor in pip's"),
        ("lib64/libcudart.so", "libcudart.so is neither in .*toolkit nor in pip's"),
        ("torch", "PyTorch .* has no CUDA"),
    ],
)
def test_incomplete_cuda_is_said_or_an_error(
    missing: str,
    message: str,
    extension: ModuleType,
    toolkit: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if missing == "torch":
        monkeypatch.setattr("torch.version.cuda", None)
    else:
        (toolkit / missing).unlink()
    monkeypatch.setattr(extension, "gpu_is_seen", lambda: True)
    assert _names(extension.extensions()) == ["piip_d2._C"]
    assert "the CUDA part is not compiled, as " in capsys.readouterr().out
    monkeypatch.setenv("FORCE_CUDA", "1")
    with pytest.raises(SystemExit, match=message):
        extension.extensions()


def test_toolkit_comes_before_the_packages_of_pip(
    extension: ModuleType, toolkit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged = tmp_path / "nvidia" / "cu13"
    for name in ("include/cuda_runtime.h", "include/cccl/nv/target", "lib/libcudart.so.13"):
        (packaged / name).parent.mkdir(parents=True, exist_ok=True)
        (packaged / name).touch()
    monkeypatch.setattr(extension, "nvidia_packages", lambda major="": [packaged])
    module = extension.cuda_module()
    assert module.include_dirs[-1] == str(toolkit / "include")
    assert module.extra_link_args == [str(toolkit / "lib64" / "libcudart.so")]
    assert ("USE_CUDA", None) in module.define_macros
    (toolkit / "include" / "cuda_runtime.h").unlink()
    (toolkit / "lib64" / "libcudart.so").unlink()
    module = extension.cuda_module()
    assert module.include_dirs[-2:] == [str(packaged / "include"), str(packaged / "include/cccl")]
    assert module.extra_link_args == [str(packaged / "lib" / "libcudart.so.13")]


def test_packages_of_another_cuda_are_left_out(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    for name in ("cu12", "cu13", "cuda_runtime"):
        (tmp_path / name).mkdir()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    names = [folder.name for folder in extension.nvidia_packages("13")]
    assert names == ["cuda_runtime", "cu13"]


def test_script_in_path_leads_to_the_toolkit(
    extension: ModuleType, toolkit: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_HOME")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "nvcc"
    script.write_text(f"#!/bin/sh\necho '#$ TOP={toolkit}/bin/..' >&2\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    assert extension.cuda_toolkit() == toolkit


def test_architectures_are_those_asked_for_seen_or_known(
    extension: ModuleType, toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    extension.cuda_module()
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0"
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    extension.cuda_module()
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "8.0;9.0+PTX"
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    monkeypatch.setattr(extension, "gpu_is_seen", lambda: True)
    extension.cuda_module()
    assert "TORCH_CUDA_ARCH_LIST" not in os.environ


@needs_compiler
@pytest.mark.parametrize("required", [False, True])
def test_failure_takes_no_other_module_with_it(
    required: bool,
    extension: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("MAX_JOBS", "1")
    (tmp_path / "broken.cpp").write_text("int broken = ;")
    (tmp_path / "sound.cpp").write_text('extern "C" int PyInit_sound() { return 0; }')
    modules = [
        Extension(name, [f"{name}.cpp"], py_limited_api=True, language="c++")
        for name in ("broken", "sound")
    ]
    command = extension.build_command(required)(Distribution({"ext_modules": modules}))
    command.ensure_finalized()
    if required:
        with pytest.raises(extension.BUILD_ERRORS):
            command.run()
    else:
        command.run()
        assert "piip_d2: broken could not be compiled and is left out" in capsys.readouterr().out
        (built,) = tmp_path.glob("build/lib*/*")
        assert built.name.startswith("sound.")
        assert command.get_outputs() == [str(built.relative_to(tmp_path))]


def test_modules_of_an_earlier_build_are_removed(extension: ModuleType, tmp_path: Path) -> None:
    modules = [Extension("piip_d2._C", [], py_limited_api=True)]
    command = extension.build_command(False)(Distribution({"ext_modules": modules}))
    command.ensure_finalized()
    for name in ("_C.abi3.so", "_C_cuda.abi3.so", "_other.so"):
        (tmp_path / name).touch()
    command._remove_old(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"_C.abi3.so", "_other.so"}


def test_gpu_is_one_of_cuda(monkeypatch: pytest.MonkeyPatch, extension: ModuleType) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", None)
    assert not extension.gpu_is_seen()
