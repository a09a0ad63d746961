"""What became of every weight of a converted checkpoint."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_MAX_PATTERNS = 8


@dataclass
class ConversionReport:
    """Names by what became of them.

    Args:
        matched: Weights that found their place, by their new names.
        dropped: Weights of the file that a rule leaves out, each with the reason.
        cut: Weights of the file that matched without rows that nothing uses, each with the reason.
        added: New names that the file has nothing for, each with what was put there.
        missing: Weights of the model that the file does not have.
        unexpected: Weights of the file that the model has no place for.
        foreign: Weights of the file that are of another backbone as a whole.
        contradictory: Second names in the file whose weights differ from those of the first.
        misshapen: Weights of the model with the shape in the file and the wanted one.
        raised: How many weights were raised to 32 bits, by what they were.
        remarks: Sentences on what in the config would give other numbers than the source's.
    """

    matched: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    contradictory: list[str] = field(default_factory=list)
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    raised: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether all of the model is there, and nothing else."""
        misfits = (self.missing, self.unexpected, self.foreign, self.contradictory, self.misshapen)
        return not any(misfits)

    @property
    def counts(self) -> str:
        """What does not fit, in numbers."""
        counts = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            **({"of another backbone": self.foreign} if self.foreign else {}),
            **({"contradictory": self.contradictory} if self.contradictory else {}),
            "of another shape": self.misshapen,
        }
        return ", ".join(f"{len(names)} {words}" for words, names in counts.items())

    def __str__(self) -> str:
        lines = [
            f"matched       {len(self.matched):6d}",
            *_sections("dropped", self.dropped),
            *_section("missing", self.missing, "in the model, not in the file"),
            *_section("unexpected", self.unexpected, "in the file, not in the model"),
            *_section("other shape", self._shapes(), "name: in the file, in the model"),
        ]
        if self.foreign:
            lines += _section("other network", self.foreign, "a backbone that is not the config's")
        if self.contradictory:
            lines += _section("contradictory", self.contradictory, "other values than by the first")
        for title, reasons in (("cut", self.cut), ("added", self.added)):
            lines += _sections(title, reasons) if reasons else []
        lines += [
            f"{count} weights were {kind} and are float32 now"
            for kind, count in self.raised.items()
        ]
        return "\n".join([*lines, *(f"remark: {remark}" for remark in self.remarks)])

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


def _sections(title: str, reasons: Mapping[str, str]) -> list[str]:
    """A section for each reason; one that says 0 if there are no names."""
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, own in reasons.items() if own == reason]
        lines += _section(title, names, reason)
    return lines or _section(title, [], "")


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
