"""What each position of a run holds: entries, mapped under random numbers of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch.utils.data as torch_data
from detectron2.data import DatasetFromList

from .image_reading import UnusableImageError
from .planning import BatchPlan
from .seeding import sample_randomness

__all__ = ["DataLoadingError", "OrderedSamples", "PlannedBatches", "PlannedSamples"]

Sample = dict[str, Any]
Mapper = Callable[[Sample], Sample]
# A sample, if there is one, and a sentence for each image that could not be used.
Drawn = tuple[Sample | None, list[str]]

MAX_SUBSTITUTES = 20


class DataLoadingError(RuntimeError):
    """Data that cannot be delivered, which a user can do something about."""


class PlannedBatches(torch_data.Sampler[list[int]]):
    """The positions of each batch of one rank, without end."""

    def __init__(self, plan: BatchPlan, start_iteration: int, rank: int, world_size: int) -> None:
        self._plan = plan
        self._start_iteration = start_iteration
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        iteration = self._start_iteration
        while True:
            yield list(self._plan.batch(iteration, self._rank, self._world_size))
            iteration += 1


class PlannedSamples(torch_data.Dataset[Drawn]):
    """Samples by their position in a plan, each under random numbers of its own."""

    def __init__(self, entries: Sequence[Sample], mapper: Mapper, plan: BatchPlan) -> None:
        # Kept as one block of bytes, which workers share; a list of dicts would be copied by each,
        # page by page, as its reference counts change.
        self._entries = DatasetFromList(list(entries), copy=False)
        self._mapper = mapper
        self._plan = plan

    def __getitem__(self, position: int) -> Drawn:
        index = self._plan.index(position)
        sentences: list[str] = []
        for attempt in range(1, MAX_SUBSTITUTES + 1):
            # The same numbers for each attempt: a substitute is augmented like the planned one.
            with sample_randomness(self._plan.seed, position):
                sample, sentence = _map(self._entries[index], self._mapper)
            if sample is not None:
                return sample, sentences
            sentences.append(sentence)
            index = self._plan.substitute(position, attempt)
        raise DataLoadingError(
            f"training needs images that can be read, but {MAX_SUBSTITUTES} drawn one after the "
            f"other could not be used; the last: {sentences[-1]}"
        )


class OrderedSamples(torch_data.Dataset[Drawn]):
    """Samples by their index."""

    def __init__(self, entries: Sequence[Sample], mapper: Mapper) -> None:
        self._entries = DatasetFromList(list(entries), copy=False)
        self._mapper = mapper

    def __getitem__(self, index: int) -> Drawn:
        sample, sentence = _map(self._entries[index], self._mapper)
        return sample, [sentence] if sentence else []


def _map(entry: Sample, mapper: Mapper) -> tuple[Sample | None, str]:
    """Returns the sample of an entry, or None and a sentence where its image cannot be used."""
    try:
        return mapper(entry), ""
    # Only what is wrong with the image itself is skipped. Mistakes in code or config must stop.
    except UnusableImageError as error:
        return None, str(error)
    except Exception as error:
        # In a worker nothing else would say which image it was.
        raise DataLoadingError(
            f"preparing {entry.get('file_name', 'an image')} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
