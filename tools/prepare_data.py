"""Make the data sets that the package brings.

python tools/prepare_data.py trees nuclei scenes
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from piip_d2.data.checks import check_coco, read_coco_json
from piip_d2.data.embedded import EMBEDDED_DATASETS, datasets_root, prepare_dataset


def main(argv: list[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="+", help=f"data sets to make, of {', '.join(EMBEDDED_DATASETS)}"
    )
    parser.add_argument(
        "--root", type=Path, help="folder of all data sets (DETECTRON2_DATASETS, else ./datasets)"
    )
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(EMBEDDED_DATASETS))
    if unknown:
        parser.error(f"name data sets of {sorted(EMBEDDED_DATASETS)}, got {unknown}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in arguments.names:
            root = arguments.root.expanduser().resolve() if arguments.root else datasets_root()
            dataset = EMBEDDED_DATASETS[name]
            prepare_dataset(dataset, root)
            for split in ("train", "val"):
                _describe(dataset.json_file(root, split), dataset.image_root(root, split))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _describe(json_file: Path, image_root: Path) -> None:
    print(check_coco(read_coco_json(json_file), json_file, image_root)[1].describe())


if __name__ == "__main__":
    sys.exit(main())
