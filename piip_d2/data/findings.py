"""What checks of a data set found, counted by kind, with the first few of each by name."""

from __future__ import annotations

from collections import Counter

__all__ = ["Findings"]

NUM_EXAMPLES = 3


class Findings:
    """Counts of what is wrong with a data set, and of what only looks wrong."""

    def __init__(self) -> None:
        # Left out or mended; kept as it is.
        self.problems: Counter[str] = Counter()
        self.suspicions: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add_problem(self, what: str, where: str) -> None:
        """Counts something that was left out or mended.

        Args:
            what: The kind of problem, in the singular.
            where: The image or annotation.
        """
        self.problems[what] += 1
        self._remember(what, where)

    def add_suspicion(self, what: str, where: str) -> None:
        """Counts something that is used as it is, but that a person should look at.

        Args:
            what: The kind of problem, in the singular.
            where: The image or annotation.
        """
        self.suspicions[what] += 1
        self._remember(what, where)

    def _remember(self, what: str, where: str) -> None:
        examples = self.examples.setdefault(what, [])
        if len(examples) < NUM_EXAMPLES:
            examples.append(where)
