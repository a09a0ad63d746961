"""Makes the virtual environment that the Makefile works in, from the pinned files beside it.

Every step prints one line. A step whose inputs have not changed since it was last done is skipped;
an installation that was killed half-way is begun anew. Needs nothing but the standard library.
"""

# Without "from __future__ import annotations", and with the newer annotations in quotes: the
# Pythons that check_platform() turns away have to be able to read this file first.

import argparse
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from checks import InstallError, check_disk, check_platform, compiler_advice, explain

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
SOURCES = REPOSITORY / "piip_d2" / "csrc"

# 6 GB stay; the rest is what pip unpacks from. All of it lies inside the environment's folder.
GIGABYTES_FOR_TORCH = 9.0
GIGABYTES_FOR_THE_REST = 1.5


class Ledger:
    """What has been done in an environment, kept in a file inside it.

    Args:
        venv: Folder of the virtual environment; it need not exist yet.
    """

    def __init__(self, venv: Path) -> None:
        self._path = venv / "install.json"
        self.done: dict[str, str] = {}
        self.running = ""
        self.exists = self._path.is_file()
        if self.exists:
            try:
                content = json.loads(self._path.read_text())
                self.done, self.running = content["done"], content["running"]
            except (ValueError, KeyError):
                self.running = "the last change of install.json"

    def begin(self, step: str) -> None:
        """Notes that ``step`` is under way; found again, it means that it was interrupted."""
        self.running = step
        self.done.pop(step, None)
        self._save()

    def finish(self, digest: str) -> None:
        """Notes that the step under way is complete."""
        self.done[self.running] = digest
        self.running = ""
        self._save()

    def give_up(self) -> None:
        """Notes that the step under way failed before it changed the environment."""
        self.running = ""
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps({"done": self.done, "running": self.running}, indent=1))
        draft.replace(self._path)


class Installer:
    """The steps, each a method, in the order of ``STEPS``.

    Args:
        venv: Folder of the virtual environment.
    """

    STEPS = (
        ("environment", "an empty virtual environment", ()),
        ("build", "pip, setuptools and ninja", ("requirements/build.txt",)),
        ("torch", "PyTorch and torchvision (3 GB to download)", ("requirements/torch.txt",)),
        ("runtime", "the other run-time packages", ("requirements/runtime.txt",)),
        ("detectron2", "Detectron2", ("requirements/detectron2.txt",)),
        ("dev", "tools for tests and checks", ("requirements/dev.txt",)),
        ("docs", "what makes the documentation", ("requirements/docs.txt",)),
        ("package", "piip_d2 itself, with its operators", ("setup.py", "piip_d2/csrc")),
    )

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.python = venv / "bin" / "python"
        self.log = venv / "install.log"
        self.ledger = Ledger(venv)

    def run(self) -> None:
        """Does what is not done yet.

        Raises:
            InstallError: If a step fails.
        """
        self._remove_unfinished()
        pending = [step for step in self.STEPS if self.ledger.done.get(step[0]) != digest(step[2])]
        if not pending:
            return
        names = [name for name, _, _ in pending]
        needed = GIGABYTES_FOR_TORCH if "torch" in names else GIGABYTES_FOR_THE_REST
        check_disk(shutil.disk_usage(self.venv.parent).free / 1e9, needed, self.venv.parent)
        advice = compiler_advice(SOURCES)
        if advice:
            print(f"Note: {advice}", flush=True)
        for number, (name, title, inputs) in enumerate(pending, start=1):
            print(f"[{number}/{len(pending)}] {title} ...", end=" ", flush=True)
            start = time.monotonic()
            self.ledger.begin(name)
            remark = getattr(self, "_install_" + name)()
            self.ledger.finish(digest(inputs))
            print(remark or f"done in {time.monotonic() - start:.0f} s", flush=True)
        shutil.rmtree(self.venv / "tmp", ignore_errors=True)

    def _remove_unfinished(self) -> None:
        if self.venv.exists() and any(self.venv.iterdir()) and not self.ledger.exists:
            raise InstallError(
                f"{self.venv} exists but was not made by this program, and is left alone. Remove "
                "it, name another folder (make VENV=...), or install into it by hand, as the "
                "section on installation in README.md says."
            )
        broken = not self.python.exists() and "environment" in self.ledger.done
        if self.ledger.running or broken:
            what = "was interrupted" if self.ledger.running else "has lost its Python"
            print(f"{self.venv} {what}: beginning anew", flush=True)
            shutil.rmtree(self.venv)
            self.ledger = Ledger(self.venv)

    def _install_environment(self) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "venv", str(self.venv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if made.returncode:
            print("failed", flush=True)
            raise InstallError(
                "the virtual environment could not be made: "
                f"{made.stdout.decode(errors='replace').strip()[-400:]}\n"
                "On Debian and Ubuntu, 'apt-get install python3-venv' brings what is missing. "
                "Then run make again."
            )

    def _install_build(self) -> None:
        self._pip("--require-hashes", "--no-deps", "-r", str(REQUIREMENTS / "build.txt"))

    def _install_torch(self) -> None:
        self._pip_pinned("torch.txt")

    def _install_runtime(self) -> None:
        self._pip_pinned("runtime.txt")

    def _install_dev(self) -> None:
        self._pip_pinned("dev.txt")

    def _install_docs(self) -> None:
        self._pip_pinned("docs.txt")

    def _install_package(self) -> str:
        # Without -v, pip keeps to itself what was not compiled, and why.
        output = self._pip("-v", "--no-build-isolation", "--no-deps", "-e", str(REPOSITORY))
        notes = dict.fromkeys(re.findall(r"^ *piip_d2: (.+)$", output, flags=re.MULTILINE))
        return "; ".join(["done", *notes]) if notes else ""

    def _install_detectron2(self) -> str:
        vendor = self.venv / "vendor"
        shutil.rmtree(vendor, ignore_errors=True)
        found = self._output(
            "import importlib.util\n"
            "spec = importlib.util.find_spec('detectron2')\n"
            "print(spec.origin if spec else '')"
        )
        if found:
            return f"already there, left as it is: {Path(found).parent}"
        # The wheel's tag names CPython 3.10, and pip takes a foreign tag only with --target.
        tag = ("--only-binary=:all:", "--python-version", "3.10", "--target", str(vendor))
        self._pip(*tag, "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS / "detectron2.txt"))
        # It also brings a top-level package "tools", in the way of this repository's own, and
        # metadata that asks for numpy<2, which pip would obey at the next installation; that of
        # lvis asks for a second OpenCV.
        shutil.rmtree(vendor / "tools", ignore_errors=True)
        for metadata in vendor.glob("*.dist-info"):
            metadata.rename(metadata.with_suffix(".info"))
        site_packages = self._output("import sysconfig; print(sysconfig.get_path('purelib'))")
        (Path(site_packages) / "detectron2_vendor.pth").write_text(f"{vendor}\n")
        return ""

    def _pip_pinned(self, file: str) -> None:
        options = ("--require-hashes", "--no-deps", "--no-build-isolation")
        self._pip(*options, "-r", str(REQUIREMENTS / file))

    def _pip(self, *arguments: str) -> str:
        downloads = self.venv / "tmp"
        downloads.mkdir(exist_ok=True)
        # TMPDIR: gigabytes pass through it, and /tmp is often a small file system in memory.
        environment = dict(os.environ, TMPDIR=str(downloads), PIP_USER="0", PIP_NO_INPUT="1")
        # Where ninja is.
        environment["PATH"] = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", "")])
        command = [str(self.python), "-m", "pip", "install", "--progress-bar", "off", *arguments]
        with open(self.log, "ab") as log:
            start = log.tell()
            code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        output = self.log.read_bytes()[start:].decode(errors="replace")
        if code:
            print("failed", flush=True)
            if "Installing collected packages" not in output:
                self.ledger.give_up()
            raise InstallError(explain(output, self.log))
        return output

    def _output(self, program: str) -> str:
        return subprocess.check_output([str(self.python), "-c", program], text=True).strip()


def digest(inputs: "tuple[str, ...]") -> str:
    """Hashes the content of files and folders, named relative to the repository."""
    content = hashlib.sha256()
    for name in inputs:
        path = REPOSITORY / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                content.update(file.read_bytes())
    return content.hexdigest()


def main() -> int:
    """Runs the installer; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=REPOSITORY / ".venv")
    venv = parser.parse_args().venv.absolute()
    try:
        check_platform(sys.version_info[:2], platform.system(), platform.machine())
        Installer(venv).run()
    except InstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = "the disk is full: free some space" if error.errno == errno.ENOSPC else str(error)
        print(f"install: {reason}, then run make again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninstall: interrupted; the next make begins anew.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
