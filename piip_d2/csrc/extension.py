"""How the sources in this folder are compiled; ``setup.py`` asks for it.

These variables of the environment are obeyed:

* ``PIIP_D2_BUILD``: ``auto`` (default) compiles what can be compiled, and the package works
  without the rest; with ``required`` a failure is an error; ``off`` compiles nothing.
* ``FORCE_CUDA``: ``1`` compiles the CUDA part also where no GPU is seen, and its failure is an
  error; ``0`` leaves it out.
* ``TORCH_CUDA_ARCH_LIST``: for which GPUs, as in ``9.0`` or ``8.0;9.0+PTX``. Otherwise for those
  that are seen, or if there is none, for all that the CUDA part was written for.
* ``CUDA_HOME``, ``CXX``, ``MAX_JOBS``: as everywhere in PyTorch.
* ``PIIP_D2_CXXFLAGS``: further flags for compiler and linker, such as ``-fsanitize=address``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.errors import BaseError, CCompilerError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path("piip_d2/csrc")

# One binary for every PyTorch from 2.10 and every Python from 3.10 on.
FLAGS = ["-std=c++17", "-O3", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
# Hidden: the inline functions of PyTorch's headers must not be mixed with those of another version.
CXX_FLAGS = [*FLAGS, "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-g0"]
# GCC 12 takes an operand that its own AVX-512 headers leave undefined for a mistake.
CXX_FLAGS += ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]
NVCC_FLAGS = [*FLAGS, "-Xcompiler", "-fvisibility=hidden", "-Xfatbin", "-compress-all"]
RELEASE_ARCHITECTURES = ["8.0", "8.6", "9.0", "10.0", "12.0"]
BUILD_ERRORS = (
    BaseError,
    CCompilerError,
    RuntimeError,
    ValueError,
    OSError,
    subprocess.SubprocessError,
)


class Obstacle(Exception):
    """Why a part cannot be compiled here."""


def extensions() -> dict[str, Any]:
    """Describes the compiled modules and how they are built.

    Returns:
        Keywords of ``setup``; none if nothing is to be compiled.

    Raises:
        SystemExit: If one that is required cannot be built here.
    """
    mode = os.environ.get("PIIP_D2_BUILD") or "auto"
    force_cuda = os.environ.get("FORCE_CUDA", "")
    required = mode == "required" or force_cuda == "1"
    if mode not in ("auto", "required", "off"):
        raise SystemExit(f"PIIP_D2_BUILD must be auto, required or off, got {mode!r}")
    modules = []
    try:
        if mode != "off":
            modules.append(cpu_module())
            if force_cuda != "0" and (force_cuda == "1" or gpu_is_seen()):
                modules.append(cuda_module())
    except Obstacle as obstacle:
        if required:
            raise SystemExit(f"piip_d2 cannot be compiled: {obstacle}") from obstacle
        say(f"{'the CUDA part is' if modules else 'operators are'} not compiled, as {obstacle}")
    if not modules:
        return {}
    return {
        "ext_modules": modules,
        "cmdclass": {"build_ext": build_command(required)},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


def cpu_module() -> Extension:
    """Describes ``piip_d2._C``: the schemas of all operators, and what runs on the CPU.

    Returns:
        The module, for setuptools.

    Raises:
        Obstacle: If PyTorch, a compiler or Python's headers are missing.
    """
    if importlib.util.find_spec("torch") is None:
        raise Obstacle("there is no PyTorch (or pip hides it: --no-build-isolation)")
    compiler = shlex.split(os.environ.get("CXX") or "c++")[0]
    if not shutil.which(compiler):
        raise Obstacle(
            f"there is no C++ compiler {compiler!r} (Debian, Ubuntu: apt-get install g++)"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise Obstacle(f"{headers} has no Python.h (Debian, Ubuntu: apt-get install python3-dev)")
    return stable_module("piip_d2._C", ["*.cpp", "cpu/**/*.cpp"])


def cuda_module() -> Extension:
    """Describes ``piip_d2._C_cuda``: what runs on CUDA devices.

    Returns:
        The module, for setuptools.

    Raises:
        Obstacle: If PyTorch is without CUDA, or the CUDA toolkit is missing.
    """
    import torch
    from torch.utils import cpp_extension

    if not torch.version.cuda:
        raise Obstacle(f"PyTorch {torch.__version__} has no CUDA")
    toolkit = cuda_toolkit()
    # Where BuildExtension looks for nvcc.
    cpp_extension.CUDA_HOME = str(toolkit)
    if os.environ.get("TORCH_CUDA_ARCH_LIST", "native") == "native" and not gpu_is_seen():
        os.environ["TORCH_CUDA_ARCH_LIST"] = release_architectures(toolkit)
    packaged = nvidia_packages(torch.version.cuda.partition(".")[0])
    headers = [toolkit / "include"]
    if not (headers[0] / "cuda_runtime.h").is_file():
        headers = [folder / name for folder in packaged for name in ("include", "include/cccl")]
        headers = [folder for folder in headers if folder.is_dir()]
    if not any((folder / "cuda_runtime.h").is_file() for folder in headers):
        raise Obstacle(f"cuda_runtime.h is neither in {toolkit} nor in pip's packages of NVIDIA")
    libraries = [toolkit / "lib64", toolkit / "lib", *(folder / "lib" for folder in packaged)]
    runtime = [path for folder in libraries for path in sorted(folder.glob("libcudart.so*"))]
    if not runtime:
        raise Obstacle(f"libcudart.so is neither in {toolkit} nor in pip's packages of NVIDIA")
    module = stable_module("piip_d2._C_cuda", ["cuda/**/*.cpp", "cuda/**/*.cu"])
    module.include_dirs += map(str, headers)
    module.libraries.append("torch_cuda")
    module.define_macros.append(("USE_CUDA", None))
    # By its path, as pip's packages have it under its full name alone.
    module.extra_link_args.append(str(runtime[0]))
    return module


def stable_module(name: str, patterns: list[str]) -> Extension:
    """Describes a module of some of the sources, on the stable interface of Python and PyTorch."""
    from torch.utils.cpp_extension import include_paths, library_paths

    own_flags = shlex.split(os.environ.get("PIIP_D2_CXXFLAGS", ""))
    # Messages name the source, and not where it was compiled.
    names = f"-ffile-prefix-map={ROOT}/="
    return Extension(
        name,
        list(sources(*patterns)),
        depends=["setup.py", *sources("**/*.h", "**/*.cuh")],
        include_dirs=[str(ROOT / SOURCES), *include_paths()],
        library_dirs=library_paths(),
        libraries=["torch_cpu"],
        extra_compile_args={
            "cxx": [*CXX_FLAGS, names, *own_flags],
            "nvcc": [*NVCC_FLAGS, "-Xcompiler", names],
        },
        extra_link_args=own_flags,
        py_limited_api=True,
        language="c++",
    )


def sources(*patterns: str) -> Iterator[str]:
    """Finds files below the folder of the sources; setuptools wants relative paths."""
    for pattern in patterns:
        for path in sorted((ROOT / SOURCES).glob(pattern)):
            yield path.relative_to(ROOT).as_posix()


def gpu_is_seen() -> bool:
    """Tells whether PyTorch sees a CUDA device; ROCm's have the same name, but another compiler."""
    import torch

    return torch.version.cuda is not None and torch.cuda.is_available()


def cuda_toolkit() -> Path:
    """Finds the CUDA toolkit.

    Returns:
        The folder with ``bin/nvcc``.

    Raises:
        Obstacle: If there is none.
    """
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        candidates = [Path(named)]
    else:
        candidates = [Path("/usr/local/cuda"), *nvidia_packages()]
        nvcc = shutil.which("nvcc")
        # What is found in PATH may be a script: nvcc itself knows where it lies.
        told = output(nvcc, "--dryrun", "-E", "-x", "cu", os.devnull) if nvcc else ""
        candidates[:0] = [Path(line[7:]).resolve() for line in re.findall("#\\$ TOP=.*", told)]
    for folder in candidates:
        if (folder / "bin" / "nvcc").is_file():
            return folder
    where = named or "PATH, /usr/local/cuda or pip's packages of NVIDIA"
    raise Obstacle(f"there is no CUDA compiler nvcc in {where}")


def nvidia_packages(major: str = "") -> list[Path]:
    """Lists the folders of pip's NVIDIA packages, of one major version of CUDA if it is given."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations or () if spec else ()
    folders = [folder for root in roots for folder in sorted(Path(root).iterdir(), reverse=True)]
    other = re.compile(r"cu\d+")
    return [
        folder
        for folder in folders
        if not major or not other.fullmatch(folder.name) or folder.name == f"cu{major}"
    ]


def release_architectures(toolkit: Path) -> str:
    """Lists what the CUDA part was written for, as far as this ``nvcc`` knows it."""
    known = output(str(toolkit / "bin" / "nvcc"), "--list-gpu-code").split()
    listed = [name for name in RELEASE_ARCHITECTURES if f"sm_{name.replace('.', '')}" in known]
    return ";".join(listed) + "+PTX"


def output(*command: str) -> str:
    """Runs a program and returns all it prints, "" if it cannot be started."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr


def build_command(required: bool) -> type:
    """Makes the command ``build_ext``; unless ``required``, it leaves out what fails."""
    from torch.utils.cpp_extension import BuildExtension

    class Build(BuildExtension):
        """Builds each module by itself, so that one that fails takes no other with it."""

        extensions: list[Extension]
        compiler: Any
        inplace: bool

        def finalize_options(self) -> None:
            super().finalize_options()
            if self.editable_mode:
                # pip names a temporary folder; in one that stays, only what changed is compiled.
                kind = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
                self.build_temp = f"build/temp.{kind}"

        def run(self) -> None:
            modules, compiler, inplace = self.extensions, self.compiler, self.inplace
            folder = self.build_temp
            built = []
            for module in modules:
                self.extensions, self.compiler, self.inplace = [module], compiler, inplace
                self.build_temp = os.path.join(folder, module.name)
                try:
                    super().run()
                    built.append(module)
                except BUILD_ERRORS as error:
                    if required:
                        raise
                    say(f"{module.name} could not be compiled and is left out: {error}")
            self.extensions, self.inplace = built, inplace
            if inplace:
                self._remove_old(ROOT / "piip_d2")

        def _remove_old(self, folder: Path) -> None:
            """Removes modules of an earlier build, which need not fit those of this one."""
            new = {Path(self.get_ext_filename(module.name)).name for module in self.extensions}
            for path in folder.glob("_C*.so"):
                if path.name not in new:
                    path.unlink()

    return Build


def say(text: str) -> None:
    """Prints a line; pip shows it with ``-v``."""
    print(f"piip_d2: {text}", flush=True)
