"""Predicts the memory of a configuration per process, part by part and phase by phase.

python tools/estimate_memory.py --config-file configs/mask_rcnn/piip_tsb_1120_896_448_1x.py \\
    --batch-size 2 --precision bf16 --activation-checkpointing selective

Neither a GPU nor the memory is needed: a step is run on tensors without numbers. docs/MEMORY.md
says what is counted, and how far it is from what was measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from piip_d2.analysis.memory.configs import PRECISIONS, Question, estimate_config
from piip_d2.analysis.memory.estimate import MODES, STRATEGIES
from piip_d2.analysis.memory.formats import as_json, as_text
from piip_d2.analysis.memory.trace import DEVICES
from piip_d2.layers.activation_checkpoint import ACT_CHECKPOINT_MODES

_MODES = {"train": MODES[0], "inference": MODES[1]}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if there is nothing to predict."""
    args = _parser().parse_args(argv)
    question = Question(
        image_size=None if args.image_size is None else (*args.image_size,),
        batch_size=args.batch_size,
        mode=_MODES[args.mode],
        precision=args.precision,
        act_checkpoint=None
        if args.activation_checkpointing is None
        else args.activation_checkpointing != "none" and args.activation_checkpointing,
        strategy=args.strategy,
        world_size=args.world_size,
        cpu_offload=args.cpu_offload,
        num_objects=args.objects,
        device=args.device,
    )
    try:
        setting, estimate = estimate_config(args.config_file, question, args.opts)
    except (ImportError, OSError, ValueError) as error:
        print(f"estimate_memory.py: {error}", file=sys.stderr)
        return 1
    print((as_json if args.json else as_text)(setting, estimate), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="the model's configuration")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images; by default a square of the largest resolution",
    )
    parser.add_argument("--batch-size", type=int, help="images per process")
    parser.add_argument("--mode", choices=tuple(_MODES), default="train")
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), help="by default the configuration's"
    )
    parser.add_argument(
        "--activation-checkpointing",
        choices=("none", *ACT_CHECKPOINT_MODES),
        help="for all parts; by default the configuration's",
    )
    parser.add_argument(
        "--strategy", choices=STRATEGIES, help="by default the configuration's; see --world-size"
    )
    parser.add_argument("--world-size", type=int, default=1, help="processes")
    parser.add_argument(
        "--cpu-offload",
        action=argparse.BooleanOptionalAction,
        help='with the strategy "fsdp"; by default the configuration\'s',
    )
    parser.add_argument("--objects", type=int, default=10, help="in every image, for training")
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="cuda: attention keeps less in bfloat16; optimizers update many weights at once",
    )
    parser.add_argument("--json", action="store_true", help="bytes instead of a table")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    return parser


if __name__ == "__main__":
    sys.exit(main())
