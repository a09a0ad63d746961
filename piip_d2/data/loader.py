"""Loaders whose samples do not depend on the number of workers, nor on when a run was resumed."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence

import torch
import torch.utils.data as torch_data
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm

from .annotation_checks import check_for_masks
from .object_sizes import ObjectSizes, measure_objects
from .planning import BatchPlan, orientation_groups
from .registration import get_dataset_dicts
from .samples import (
    DataLoadingError,
    Drawn,
    Mapper,
    OrderedSamples,
    PlannedBatches,
    PlannedSamples,
    Sample,
)

__all__ = [
    "DataLoadingError",
    "EvaluationLoader",
    "TrainLoader",
    "build_test_loader",
    "build_train_loader",
]

logger = logging.getLogger(__name__)

Dataset = str | Sequence[str] | Sequence[Sample]

NUM_NAMED = 5


def build_train_loader(
    dataset: Dataset,
    *,
    mapper: Mapper,
    total_batch_size: int,
    num_workers: int = 0,
    prefetch_factor: int = 2,
    device: str = "cpu",
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
        prefetch_factor: Batches that each of them prepares ahead.
        device: Where images are wanted, "auto" for the GPU, if any, which works on meanwhile.
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
    groups = _groups(entries) if aspect_ratio_grouping else [0] * len(entries)
    plan = BatchPlan(groups, total_batch_size // world_size, seed)
    loader = TrainLoader(
        PlannedSamples(entries, mapper, plan),
        PlannedBatches(plan, start_iteration, comm.get_rank(), world_size),
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        device=device,
    )
    # The process that writes the log is the only one to report them.
    if comm.is_main_process():
        loader.objects = measure_objects(entries)
    return loader


def build_test_loader(
    dataset: Dataset,
    *,
    mapper: Mapper,
    batch_size: int = 1,
    num_workers: int = 0,
    prefetch_factor: int = 2,
    device: str = "cpu",
) -> EvaluationLoader:
    """Returns a loader that delivers every usable image once, split over the ranks.

    Args:
        dataset: Names of data sets, or entries in Detectron2's format.
        mapper: Makes a sample of an entry.
        batch_size: Images in a batch of one rank.
        num_workers: Processes that prepare samples. They stay for the next evaluation.
        prefetch_factor: Batches that each of them prepares ahead.
        device: See ``build_train_loader``.

    Returns:
        Loader for one rank, which delivers its share of the images once.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    entries = _entries(dataset, filter_empty=False)
    sampler = InferenceSampler(len(entries))
    # Every rank gets a run of consecutive images, which the evaluator puts together again.
    batches = torch_data.BatchSampler(sampler, batch_size, drop_last=False)
    return EvaluationLoader(
        OrderedSamples(entries, mapper),
        batches,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        device=device,
    )


class _Loader:
    """Batches from a ``DataLoader``, without the images that cannot be used, of which it warns.

    Args:
        samples: Delivers a sample and what went wrong on the way to it.
        batches: Keys of the samples of each batch.
        num_workers: Processes that prepare samples.
        prefetch_factor: Batches that each of them prepares ahead.
        device: Where images are wanted.
    """

    # What it means that an image cannot be used.
    _consequence: str
    # Whether it is run through more than once.
    _starts_again = False

    def __init__(
        self,
        samples: torch_data.Dataset[Drawn],
        batches: torch_data.Sampler[list[int]],
        *,
        num_workers: int,
        prefetch_factor: int,
        device: str,
    ) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        if prefetch_factor < 1:
            raise ValueError(f"prefetch_factor must be at least 1, got {prefetch_factor}")
        self.dataset = samples
        self.num_workers = num_workers
        self._device = _device(device)
        # What was said about each image that could not be used, and how often it was met.
        self.unusable: dict[str, int] = {}
        self._loader = torch_data.DataLoader(
            samples,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=_as_list,
            # Only from pinned memory can a GPU copy while the host goes on.
            pin_memory=self._device.type == "cuda",
            prefetch_factor=prefetch_factor if num_workers else None,
            # The workers of training never come to an end.
            persistent_workers=num_workers > 0 and self._starts_again,
            worker_init_fn=_leave_signals_to_the_run,
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
            batch = [self._with_image_there(sample) for sample, _ in drawn if sample is not None]
            if batch:
                yield batch

    def report_unusable(self) -> None:
        """Says in the log how many images could not be used so far, if there are any."""
        if self.unusable:
            logger.warning(
                "In all, %d images could not be used; %s.", len(self.unusable), self._consequence
            )

    def _with_image_there(self, sample: Sample) -> Sample:
        # Objects stay on the host, where targets are prepared.
        if self._device.type == "cpu" or "image" not in sample:
            return sample
        return {**sample, "image": sample["image"].to(self._device, non_blocking=True)}

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
    # The sizes of the objects that are trained on, where they were measured.
    objects: ObjectSizes | None = None


class EvaluationLoader(_Loader):
    """A loader of every usable image; ``unusable`` counts the others."""

    # The evaluator reads the annotations of all images, whatever the loader delivers.
    _consequence = "the objects in them count as missed"
    _starts_again = True

    def __len__(self) -> int:
        """Returns the number of batches, had every image been usable."""
        return len(self._loader)


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


def _groups(entries: Sequence[Sample]) -> list[int]:
    """Returns the group of each image: only those of one group come into a batch."""
    sizes = [(entry.get("width", 1), entry.get("height", 1)) for entry in entries]
    return orientation_groups(sizes)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _leave_signals_to_the_run(worker: int) -> None:
    # Ctrl-C and job schedulers reach every process. Without its workers the run could not finish
    # the iteration and save, so they end when their parent tells them to, and not before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_the_parent_alone, daemon=True).start()


def _obey_the_parent_alone() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _as_list(drawn: list[Drawn]) -> list[Drawn]:
    return drawn
