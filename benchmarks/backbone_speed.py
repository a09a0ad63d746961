#!/usr/bin/env python
"""Times PIIP backbones beside a single ViT on the same image, and reports ratios.

python benchmarks/backbone_speed.py --output benchmarks/results/backbone_speed.json

All networks take turns within one run, so that what slows the machine slows them all. Weights are
random; times do not depend on them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import piip_d2
from piip_d2.modeling.backbone import build_network, build_vit_branch
from piip_d2.ops import has_extension

# ViTDet looks at the whole image in every third block, and through windows in the others.
VITDET_WINDOWS = [14, 14, None] * 4
BASELINE = "vit_b"


def build_networks(resolution: int) -> dict[str, nn.Module]:
    """Builds what is compared: a plain ViT-B, and PIIP-TSB with the published ratios of sizes.

    Args:
        resolution: Side of the image in pixels, of which every branch gets its share.

    Returns:
        Networks by name, the baseline first; all give maps at strides 4, 8, 16 and 32.
    """
    plain = build_vit_branch("vit_base", img_size=resolution, window_size=VITDET_WINDOWS)
    pyramid = [
        build_vit_branch(name, img_size=resolution * part // 1120, window_size=14)
        for name, part in (("vit_tiny", 1120), ("vit_small", 896), ("vit_base", 448))
    ]
    networks = {
        BASELINE: build_network([plain], num_interactions=0),
        "piip_tsb": build_network(pyramid, num_interactions=12),
    }
    return {name: network.eval() for name, network in networks.items()}


def compare(networks: dict[str, nn.Module], images: Tensor, repeats: int) -> dict[str, Any]:
    """Times every network on the same images, in turns.

    Args:
        networks: Networks by name, the baseline among them.
        images: (B, 3, H, W).
        repeats: Timed rounds, behind one that is not.

    Returns:
        By name: parameters in millions, seconds of all rounds, their median, and its ratio to the
        baseline's.
    """
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for timed in [False] + [True] * repeats:
        for name, network in networks.items():
            elapsed = _seconds(network, images)
            if timed:
                seconds[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        name: {
            "parameters_m": round(sum(p.numel() for p in network.parameters()) / 1e6, 2),
            "seconds": [round(value, 4) for value in seconds[name]],
            "median_s": round(medians[name], 4),
            "ratio_to_baseline": round(medians[name] / medians[BASELINE], 3),
        }
        for name, network in networks.items()
    }


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Returns what times depend on, besides the code."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "piip_d2": piip_d2.__version__,
        "compiled_operators": has_extension(),
        "date": datetime.date.today().isoformat(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the comparison that the command line asks for, and writes it where that is said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=1120, help="side of the image in pixels")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    images = torch.zeros(args.batch_size, 3, args.resolution, args.resolution, device=device)
    networks = {name: net.to(device) for name, net in build_networks(args.resolution).items()}
    settings = {key: getattr(args, key) for key in ("resolution", "batch_size", "repeats")}
    report = {**describe_machine(device), **settings, "dtype": "float32"}
    with torch.inference_mode():
        report["results"] = compare(networks, images, args.repeats)
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")


def _seconds(network: nn.Module, images: Tensor) -> float:
    """Returns how long one pass takes, until a GPU is done with it too."""
    start = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
