"""What is compiled is loaded; what is not is said once, and the reference does its work."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from piip_d2.ops import _extension, has_extension

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import torch
from piip_d2.ops import has_extension, ms_deform_attn
locations, weights = torch.full((1, 3, 2, 1, 1, 2), 0.5), torch.full((1, 3, 2, 1, 1), 0.5)
output = ms_deform_attn(torch.ones(1, 4, 2, 1), [(2, 2)], locations, weights)
print(has_extension(), output.unique().tolist())
"""

FOLDER = Path(os.environ.get("PIIP_D2_EXTENSION_DIR") or ROOT / "piip_d2")
# Without this, tests of what is compiled would be skipped where it should have been.
MUST_BE_THERE = (
    os.environ.get("PIIP_D2_BUILD") == "required" or "PIIP_D2_EXTENSION_DIR" in os.environ
)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIIP_D2_DISABLE_EXTENSION", raising=False)
    monkeypatch.delenv("PIIP_D2_EXTENSION_DIR", raising=False)


@pytest.mark.skipif("PIIP_D2_DISABLE_EXTENSION" in os.environ, reason="switched off")
@pytest.mark.parametrize(("name", "device"), [("_C", "cpu"), ("_C_cuda", "cuda")])
def test_what_is_compiled_is_loaded(name: str, device: str) -> None:
    if not (FOLDER / f"{name}.abi3.so").exists():
        pytest.skip("not compiled here")
    if device == "cuda" and torch.version.cuda is None:
        pytest.skip("PyTorch has no CUDA")
    assert has_extension(device)
    assert has_extension(torch.device(device))
    operators = ("", "_backward", "_fused", "_fused_backward")
    for operator in (f"piip_d2::ms_deform_attn{suffix}" for suffix in operators):
        key = device.upper()
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, key), operator


@pytest.mark.skipif(not MUST_BE_THERE, reason="not asked for")
def test_what_was_asked_for_is_loaded() -> None:
    assert has_extension()


def test_other_devices_have_none() -> None:
    assert not has_extension("meta")


def test_missing_module_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIIP_D2_EXTENSION_DIR", str(tmp_path))
    assert _extension._load_all() == frozenset()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"piip_d2._C is not in {tmp_path}" in record.getMessage()
    assert "pip install --no-build-isolation -e ." in record.getMessage()


def test_broken_module_is_said_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "_C.abi3.so").write_text("no library")
    monkeypatch.setenv("PIIP_D2_EXTENSION_DIR", str(tmp_path))
    assert _extension._load_all() == frozenset()
    (record,) = caplog.records
    assert f"piip_d2._C cannot be loaded: {tmp_path}/_C.abi3.so: " in record.getMessage()


def test_switch_leaves_everything_unloaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIIP_D2_DISABLE_EXTENSION", "1")
    monkeypatch.setenv("PIIP_D2_EXTENSION_DIR", str(tmp_path))
    assert _extension._load_all() == frozenset()
    assert not caplog.records


@pytest.mark.parametrize(
    ("cuda", "gpus", "asked"),
    [
        (None, 0, [("_C", True)]),
        ("13.0", 0, [("_C", True), ("_C_cuda", False)]),
        ("13.0", 2, [("_C", True), ("_C_cuda", True)]),
    ],
)
def test_cuda_module_is_missed_only_where_there_is_a_gpu(
    cuda: str | None,
    gpus: int,
    asked: list[tuple[str, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def load(name: str, wanted: bool) -> bool:
        calls.append((name, wanted))
        return name == "_C"

    monkeypatch.setattr(_extension, "_load", load)
    monkeypatch.setattr("torch.version.cuda", cuda)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert _extension._load_all() == frozenset({"cpu"})
    assert calls == asked


def test_program_without_the_modules_runs_on_the_reference(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PIIP_D2_EXTENSION_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "False [0.5]", result.stderr
    (message,) = result.stderr.splitlines()
    assert "piip_d2._C is not in" in message
