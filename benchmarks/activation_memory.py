#!/usr/bin/env python
"""Predicts the memory of the main configurations, and writes the tables of docs/MEMORY.md.

python -m benchmarks.activation_memory --output benchmarks/results/activation_memory.json

Neither a GPU nor the memory is needed. Rows that the file has already are not counted again;
``--only`` counts those whose name contains a word, in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.named_results import fill_file, read_command_line
from piip_d2.analysis.memory.configs import Question, estimate_config
from piip_d2.analysis.memory.formats import GIB, as_dict
from piip_d2.configs import get_config_file

# Largest image of the training; what is recomputed is asked for one after the other.
MAIN = (
    "mask_rcnn/piip_tsb_1120_896_448_1x",
    "mask_rcnn/piip_tsb_1568_1120_672_1x",
    "mask_rcnn/piip_sbl_1568_1120_672_1x",
    "mask_rcnn/piip_tsbl_1568_1120_672_448_1x",
    "cascade_rcnn/piip_tsb_1568_1120_672_1x",
    "cascade_rcnn/piip_sbl_1568_1120_672_1x",
    "dino/piip_tsb_1120_896_448_1x",
    "dino/piip_tsb_1120_896_448_1x_5scale",
    "dino/piip_sbl_1792_1120_672_3x",
)
MODES: tuple[bool | str, ...] = (False, "selective", "block", "stage")
LARGE = (
    "mask_rcnn/piip_h6b_1024_512_1x_ms",
    "mask_rcnn/piip_lh6b_1536_1024_512_1x_ms",
    "dino/piip_h6b_1024_768_1x",
    "dino/piip_lh6b_1536_1024_512_2x",
)
_GPUS = 8


@dataclass(frozen=True)
class Row:
    """What is counted: a configuration, and what is asked of it."""

    config: str
    question: Question

    @property
    def name(self) -> str:
        """Tells rows apart."""
        asked = self.question
        mode = asked.act_checkpoint or "none"
        return f"{self.config} {asked.precision} {asked.strategy} {mode}"


def rows() -> Iterator[Row]:
    """Lists what is counted, the largest models first."""
    for config in LARGE:
        yield Row(config, _question("block", strategy="fsdp", world_size=_GPUS))
    for config in MAIN:
        for mode in MODES:
            yield Row(config, _question(mode))


def parts_table(results: Mapping[str, Any]) -> list[str]:
    """Writes what each part keeps for one image, in GiB, with nothing recomputed."""
    names = ("branches.0", "branches.1", "branches.2", "branches.3", "interactions", "merge")
    names = (*names, "neck", "rpn", "roi_heads", "encoder", "decoder", "weights_in_16_bit")
    lines = [f"| Configuration | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for config in MAIN:
        found = results.get(Row(config, _question(False)).name)
        if found:
            kept = found["kept_by_part"]
            cells = (f"{kept[name] / GIB:.2f}" if name in kept else "" for name in names)
            lines.append(f"| `{config}` | {' | '.join(cells)} |")
    return lines


def modes_table(results: Mapping[str, Any]) -> list[str]:
    """Writes what is kept, and the total, by what is recomputed."""
    heads = [f"{mode or 'nothing'}: kept | total" for mode in MODES]
    lines = [f"| Configuration | {' | '.join(heads)} |", f"| --- |{' ---: |' * 2 * len(MODES)}"]
    for config in MAIN:
        found = [results.get(Row(config, _question(mode)).name) for mode in MODES]
        if all(found):
            cells = (
                f"{sum(x['kept_by_part'].values()) / GIB:.2f} | {x['total'] / GIB:.2f}"
                for x in found
                if x
            )
            lines.append(f"| `{config}` | {' | '.join(cells)} |")
    return lines


def large_table(results: Mapping[str, Any]) -> list[str]:
    """Writes what a GPU of eight needs for the models of six billion parameters."""
    names = ("weights", "gradients", "optimizer states")
    head = " | ".join(names)
    lines = [
        f"| Configuration | images | {head} | forward | backward | update | total |",
        f"| --- |{' ---: |' * (len(names) + 5)}",
    ]
    for row in rows():
        found = results.get(row.name)
        if row.config in LARGE and found:
            sizes = [found["fixed"][name] for name in names]
            sizes += [found["phases"][name] for name in ("forward", "backward", "update")]
            cells = " | ".join(f"{size / GIB:.1f}" for size in (*sizes, found["total"]))
            lines.append(f"| `{row.config}` | {found['batch_size']} | {cells} |")
    return lines


def as_markdown(results: Mapping[str, Any]) -> list[str]:
    """All tables, in the order of the document."""
    tables = (parts_table(results), modes_table(results), large_table(results))
    return ["\n".join(table) for table in tables]


def main(argv: Sequence[str] | None = None) -> None:
    """Counts, and writes the file after every row."""
    results = fill_file(read_command_line(__doc__, argv), rows(), _count)
    print("\n\n".join(as_markdown(results)))


def _count(row: Row) -> tuple[dict[str, Any], str]:
    setting, estimate = estimate_config(get_config_file(row.config), row.question)
    return as_dict(setting, estimate), f"{estimate.total / GIB:.2f} GiB"


def _question(mode: bool | str, **options: Any) -> Question:
    return Question(
        # Eight processes take the configuration's batch, as large as it is.
        batch_size=None if options else 1,
        precision="bf16",
        act_checkpoint=mode,
        device="cuda",
        **{"strategy": "single", **options},
    )


if __name__ == "__main__":
    main()
