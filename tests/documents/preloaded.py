"""Runs programs in children of a process that has imported the heavy packages already.

Started as a program, it is that process: it reads one job a line and answers each with the exit
status of the child. It computes nothing itself, so that forking it is safe.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]


class PreloadedPython:
    """A Python that starts quickly.

    Args:
        folder: Where all programs run.
        environment: Their environment variables.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).resolve())],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> PreloadedPython:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The end of its input ends it.
        self._process.communicate()

    def run(self, script: Path, arguments: Sequence[str], output: Path) -> int:
        """Runs a script as ``python script arguments`` would, and returns its exit status.

        Args:
            script: The program.
            arguments: Its arguments.
            output: File that takes what it prints.
        """
        assert self._process.stdin and self._process.stdout
        job = {"script": str(script), "arguments": list(arguments), "output": str(output)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _serve() -> None:
    # What is printed on importing must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Programs import what lies beside them: the folder they run in.
    sys.path[:1] = [os.getcwd(), str(ROOT)]
    _preload()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _preload() -> None:
    import torch

    import piip_d2.modeling  # noqa: F401
    import piip_d2.visualization.run_summary  # noqa: F401
    import train_net  # noqa: F401

    torch.set_num_threads(1)


def _run(job: dict[str, Any]) -> NoReturn:
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [job["script"], *job["arguments"]]
    status = 0
    try:
        runpy.run_path(job["script"], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the clean-up that is the parent's.
    os._exit(status)


if __name__ == "__main__":
    _serve()
