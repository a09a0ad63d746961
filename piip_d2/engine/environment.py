"""The machine and the process that a run finds itself in."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

import torch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from omegaconf import DictConfig

import piip_d2
from piip_d2._atomic_file import write_text_atomically
from piip_d2.engine.config_text import config_as_yaml
from piip_d2.engine.host_memory import keep_freed_memory
from piip_d2.engine.output_paths import check_output_folder
from piip_d2.engine.run_log import FILE_LOGGER, open_run_log
from piip_d2.engine.seeding import resolve_seed
from piip_d2.ops import has_extension

logger = logging.getLogger(__name__)

_WITHOUT_DETECTRON2_OPERATORS = (
    "Nothing is missing without detectron2._C: piip_d2 has operators of its own, and torchvision's."
)

_CPU_INFO = Path("/proc/cpuinfo")


def environment_report() -> str:
    """Describes versions, compilers and devices, for bug reports."""
    # Thousands of characters of compiler flags, which the version of PyTorch implies.
    lines = [line for line in collect_env_info().splitlines() if "- Build settings:" not in line]
    if any(line.startswith("detectron2._C") and "not built" in line for line in lines):
        lines.append(_WITHOUT_DETECTRON2_OPERATORS)
    return (
        f"piip_d2 {piip_d2.__version__} @{Path(piip_d2.__file__).parent}\n"
        f"compiled operators: {_compiled_operators()}\n" + "\n".join(lines)
    )


def resolve_device(name: str, setting: str = "train.device") -> str:
    """Chooses the device to run on.

    Args:
        name: "auto", or a device as PyTorch names it.
        setting: What errors call the place where the name was given.

    Returns:
        The device by PyTorch's name.

    Raises:
        ValueError: If the machine has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{setting} must be auto, cpu or cuda, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        built = "" if torch.version.cuda else " (this PyTorch is built without CUDA)"
        raise ValueError(
            f"{setting}={name} asks for a GPU, but PyTorch sees none{built}; use "
            f"{setting}=cpu, or auto to take a GPU only where there is one"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"{setting}={name} is not there: this machine has "
            f"{torch.cuda.device_count()} GPU(s), counted from 0"
        )
    return name


def device_name(device: str | torch.device) -> str:
    """Names a device as its maker does, so that costs measured on it can be told from others.

    Args:
        device: The device; "auto" is not resolved.

    Returns:
        Such as "NVIDIA H100 80GB HBM3", or the model of the CPU; where the system does not say
        that, its architecture.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Linux alone has this file, and there Python's platform.processor() is often empty.
    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines() if _CPU_INFO.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, models), platform.processor() or platform.machine())


def set_up_run(cfg: DictConfig) -> str:
    """Prepares the output folder, logging, random seeds and arithmetic of a run.

    An earlier run in the folder stays as it is until :func:`train` has checked what it can; only
    its log gets longer.

    Args:
        cfg: The configuration; its seed and device are resolved in place.

    Returns:
        The configuration as YAML, which :func:`train` and :func:`evaluate_checkpoint` save.

    Raises:
        ValueError: If the device is not there or the output folder cannot be written.
    """
    output_dir = Path(cfg.train.output_dir)
    check_output_folder(output_dir, "train.output_dir")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"train.output_dir must be a folder that can be made, got {output_dir}: "
            f"{error.strerror}"
        ) from error
    rank = comm.get_rank()
    open_run_log(output_dir, rank)
    logging.getLogger(FILE_LOGGER).info("Environment:\n%s", environment_report())
    asked_device = cfg.train.device
    cfg.train.device = resolve_device(asked_device)
    if cfg.train.device == "cpu":
        keep_freed_memory()
    cfg.train.seed = resolve_seed(cfg.train.seed)
    logger.info(
        "Process %d of %d on %s; seed %d; output in %s (log.txt describes the environment).",
        rank + 1,
        comm.get_world_size(),
        cfg.train.device,
        cfg.train.seed,
        output_dir,
    )
    if cfg.train.applied_preset:
        logger.info("The settings of the preset %s are in use.", cfg.train.applied_preset)
    torch.backends.cudnn.benchmark = bool(cfg.train.cudnn_benchmark)
    torch.set_float32_matmul_precision(cfg.train.float32_matmul_precision)
    return _as_yaml(cfg, asked_device)


def save_config(folder: str | Path, config_text: str) -> None:
    """Writes ``config.yaml``, in the main process.

    Args:
        folder: Folder of the run; made anew if it is gone.
        config_text: What :func:`set_up_run` returned; of "" no file is made.
    """
    if config_text and comm.is_main_process():
        # A training may have moved the folder of an evaluation aside.
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_text_atomically(Path(folder) / "config.yaml", config_text)


def _as_yaml(cfg: DictConfig, asked_device: str) -> str:
    """Writes the configuration as YAML in the main process, and returns it in all of them."""
    text = ""
    if comm.is_main_process():
        # "auto" stays "auto": the file may be used on another machine.
        device = cfg.train.device
        cfg.train.device = asked_device
        try:
            text = config_as_yaml(cfg)
        finally:
            cfg.train.device = device
    # The other machines may not see this file.
    return str(comm.all_gather(text)[0])


def _compiled_operators() -> str:
    if not has_extension():
        return "not built; the PyTorch reference is used"
    cpu = f"CPU ({torch.ops.piip_d2.cpu_capability()})"
    return f"{cpu}, CUDA" if has_extension("cuda") else cpu
