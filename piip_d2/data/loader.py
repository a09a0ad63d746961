"""Loaders whose samples do not depend on the number of workers, nor on when a run was resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.utils.data as torch_data
from detectron2.data import DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from .annotation_checks import check_for_masks
from .image_reading import UnusableImageError
from .planning import BatchPlan, orientation_groups
from .registration import get_dataset_dicts
from .seeding import sample_randomness

__all__ = ["EvaluationLoader", "TrainLoader", "build_test_loader", "build_train_loader"]

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Mapper = Callable[[Sample], Sample]
Dataset = str | Sequence[str] | Sequence[Sample]
# A sample, if there is one, and a sentence for each image that could not be used.
Drawn = tuple[Sample | None, list[str]]

MAX_SUBSTITUTES = 20
NUM_NAMED = 5


class DataLoadingError(RuntimeError):
    """Data that cannot be delivered, which a user can do something about."""


def build_train_loader(
    dataset: Dataset,
    *,
    mapper: Mapper,
    total_batch_size: int,
    num_workers: int = 0,
    seed: int = 0,
    aspect_ratio_grouping: bool = True,
    filter_empty: bool = True,
    start_iteration: int = 0,
) -> TrainLoader:
    """Returns an endless loader of batches, each a list of samples.

    What comes in a slot of a batch, and how it is augmented, is a function of seed, iteration,
    rank and slot.

    Args:
        dataset: Names of data sets, or entries in Detectron2's format.
        mapper: Makes a sample of an entry.
        total_batch_size: Images in a batch, all ranks together.
        num_workers: Processes that prepare samples; 0 for none beside the caller's.
        seed: Decides about order and augmentation.
        aspect_ratio_grouping: Whether a batch holds images of one orientation, where there are
            enough of each.
        filter_empty: Whether images without objects are left out; only for names.
        start_iteration: The first iteration to deliver.

    Returns:
        Loader for one rank: its share of each batch.
    """
    # 1 where no launcher has started several processes.
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise ValueError(
            f"total_batch_size ({total_batch_size}) must be a positive multiple of the number of "
            f"processes ({world_size})"
        )
    if start_iteration < 0:
        raise ValueError(f"start_iteration must not be negative, got {start_iteration}")
    entries = _entries(dataset, filter_empty)
    if getattr(mapper, "use_instance_mask", False):
        check_for_masks(entries)
    # One group: any batch may hold any image.
    groups = [0] * len(entries)
    if aspect_ratio_grouping:
        groups = orientation_groups(
            [(entry.get("width", 1), entry.get("height", 1)) for entry in entries]
        )
    plan = BatchPlan(groups, total_batch_size // world_size, seed)
    return TrainLoader(
        _PlannedSamples(entries, mapper, plan),
        _PlannedBatches(plan, start_iteration, comm.get_rank(), world_size),
        num_workers,
    )


def build_test_loader(
    dataset: Dataset, *, mapper: Mapper, batch_size: int = 1, num_workers: int = 0
) -> EvaluationLoader:
    """Returns a loader that delivers every usable image once, split over the ranks.

    Args:
        dataset: Names of data sets, or entries in Detectron2's format.
        mapper: Makes a sample of an entry.
        batch_size: Images in a batch of one rank.
        num_workers: Processes that prepare samples.

    Returns:
        Loader for one rank, which delivers its share of the images once.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    entries = _entries(dataset, filter_empty=False)
    sampler = InferenceSampler(len(entries))
    # Every rank gets a run of consecutive images, which the evaluator puts together again.
    batches = torch_data.BatchSampler(sampler, batch_size, drop_last=False)
    return EvaluationLoader(_OrderedSamples(entries, mapper), batches, num_workers)


class _Loader:
    """Batches from a ``DataLoader``, without the images that cannot be used, of which it warns.

    Args:
        samples: Delivers a sample and what went wrong on the way to it.
        batches: Keys of the samples of each batch.
        num_workers: Processes that prepare samples.
    """

    # What it means that an image cannot be used.
    _consequence: str

    def __init__(
        self,
        samples: torch_data.Dataset[Drawn],
        batches: torch_data.Sampler[list[int]],
        num_workers: int,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        self.dataset = samples
        self.num_workers = num_workers
        # What was said about each image that could not be used, and how often it was met.
        self.unusable: dict[str, int] = {}
        self._loader = torch_data.DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_as_list,
            # Otherwise each start of a loader would draw from the generator of the model.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[list[Sample]]:
        batches = iter(self._loader)
        while True:
            try:
                drawn = next(batches)
            except StopIteration:
                self.report_unusable()
                return
            except RuntimeError as error:
                # What a mapper raised in a worker comes through with its own sentence.
                if "DataLoader worker (pid" not in str(error):
                    raise
                raise DataLoadingError(
                    f"one of the {self.num_workers} data workers ended unexpectedly; most often "
                    "memory or /dev/shm ran out. Lower dataloader.train.num_workers (0 works "
                    "without further processes)"
                ) from error
            for _, sentences in drawn:
                self._count(sentences)
            # Training always fills its slots; in evaluation a batch may come out shorter or empty.
            batch = [sample for sample, _ in drawn if sample is not None]
            if batch:
                yield batch

    def report_unusable(self) -> None:
        """Says in the log how many images could not be used so far, if there are any."""
        if self.unusable:
            logger.warning(
                "In all, %d images could not be used; %s.", len(self.unusable), self._consequence
            )

    def _count(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.unusable[sentence] = self.unusable.get(sentence, 0) + 1
            number = len(self.unusable)
            # The first few one by one, then only where their number reaches 10, 100, 1000, ...
            is_named = number <= NUM_NAMED or str(number).strip("0") == "1"
            if self.unusable[sentence] == 1 and is_named:
                logger.warning("Left out (image %d that cannot be used): %s", number, sentence)


class TrainLoader(_Loader):
    """An endless loader; ``unusable`` counts the images that others stood in for."""

    _consequence = "others stood in for them"


class EvaluationLoader(_Loader):
    """A loader of every usable image; ``unusable`` counts the others."""

    # The evaluator reads the annotations of all images, whatever the loader delivers.
    _consequence = "the objects in them count as missed"

    def __len__(self) -> int:
        """Returns the number of batches, had every image been usable."""
        return len(self._loader)


class _PlannedBatches(torch_data.Sampler[list[int]]):
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


class _PlannedSamples(torch_data.Dataset[Drawn]):
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


class _OrderedSamples(torch_data.Dataset[Drawn]):
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


def _entries(dataset: Dataset, filter_empty: bool) -> list[Sample]:
    if isinstance(dataset, str):
        return get_dataset_dicts(dataset, filter_empty=filter_empty)
    names = [entry for entry in dataset if isinstance(entry, str)]
    if names:
        return get_dataset_dicts(names, filter_empty=filter_empty)
    entries = [entry for entry in dataset if not isinstance(entry, str)]
    if not entries:
        raise ValueError("a loader needs at least one image, got none")
    return entries


def _as_list(drawn: list[Drawn]) -> list[Drawn]:
    return drawn
