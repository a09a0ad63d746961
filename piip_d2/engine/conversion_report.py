"""What became of every weight of a converted checkpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_MAX_PATTERNS = 8


@dataclass
class ConversionReport:
    """Names by what became of them.

    Args:
        matched: Weights that found their place, by their new names.
        dropped: Weights of the file that the authors' networks store without using them.
        cut: Weights of the file that matched without rows that nothing uses.
        added: Names that a file in the authors' form must have, filled with neutral values.
        missing: Weights of the model that the file does not have.
        unexpected: Weights of the file that the model has no place for.
        misshapen: Weights of the model with the shape in the file and the wanted one.
        raised: How many weights were raised to 32 bits, by what they were.
    """

    matched: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    raised: dict[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether all of the model is there, and nothing else."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        lines = [
            f"matched       {len(self.matched):6d}",
            *_section("dropped", self.dropped, "stored by the authors' code, used by nothing"),
            *_section("missing", self.missing, "in the model, not in the file"),
            *_section("unexpected", self.unexpected, "in the file, not in the model"),
            *_section("other shape", self._shapes(), "name: in the file, in the model"),
        ]
        if self.cut:
            lines += _section(
                "cut", self.cut, "rows of class tokens or later times, used by nothing"
            )
        if self.added:
            lines += _section("added", self.added, "neutral values, used by nothing")
        lines += [
            f"{count} weights were {kind} and are float32 now"
            for kind, count in self.raised.items()
        ]
        return "\n".join(lines)

    def _shapes(self) -> list[str]:
        return [f"{name}: {given}, {wanted}" for name, (given, wanted) in self.misshapen.items()]


class ConversionError(ValueError):
    """A checkpoint that does not fit the model.

    Args:
        message: What does not fit, and the way out.
        report: What became of every weight.
    """

    def __init__(self, message: str, report: ConversionReport) -> None:
        super().__init__(message)
        self.report = report


def _section(title: str, names: Iterable[str], meaning: str) -> list[str]:
    """A count, and below it the names with their numbers as ``*``."""
    names = list(names)
    lines = [f"{title:13} {len(names):6d}" + (f"  ({meaning})" if names else "")]
    patterns = Counter(re.sub(r"\.\d+(?=\.)", ".*", name) for name in names)
    shown = patterns.most_common(_MAX_PATTERNS)
    lines += [f"    {name}" + (f" x{count}" if count > 1 else "") for name, count in shown]
    if len(patterns) > len(shown):
        lines.append(f"    … and {len(patterns) - len(shown)} kinds more")
    return lines
