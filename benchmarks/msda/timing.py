"""Times several functions in turns, and keeps what was measured while nobody else was at work."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol, TypeVar

import torch

from benchmarks.msda.machine import MachineLoad

Name = TypeVar("Name", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Call:
    """What is measured.

    Args:
        function: Does it.
        times: How often it does it when called once.
    """

    function: Callable[[], object]
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Sample:
    """Mean of a few calls in a row.

    Args:
        milliseconds: Per call.
        others: Cores' worth of time that other processes took meanwhile.
    """

    milliseconds: float
    others: float


class Clock(Protocol):
    """Measures how long calls take."""

    def sample(self, call: Call, repeats: int) -> Sample:
        """Calls ``repeats`` times in a row."""
        ...


class CpuClock:
    """Time on the wall, and what other processes took of the machine meanwhile."""

    def __init__(self) -> None:
        self.load = MachineLoad()

    def sample(self, call: Call, repeats: int) -> Sample:
        """Calls ``repeats`` times in a row."""
        function = call.function
        everyone, own, start = self.load.seconds(), time.process_time(), time.perf_counter()
        for _ in range(repeats):
            function()
        elapsed = time.perf_counter() - start
        own, everyone = time.process_time() - own, self.load.seconds() - everyone
        return Sample(elapsed / (repeats * call.times) * 1e3, max(0.0, everyone - own) / elapsed)


class CudaClock:
    """Time on a GPU between two events."""

    def sample(self, call: Call, repeats: int) -> Sample:
        """Calls ``repeats`` times in a row."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            call.function()
        end.record()
        end.synchronize()
        return Sample(begin.elapsed_time(end) / (repeats * call.times), 0.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How carefully to measure.

    Args:
        samples: Wanted for every function.
        sample_ms: Shortest time of a sample; functions are called as often as it takes.
        max_others: Cores' worth of other processes above which a sample is rejected.
        tries: Rounds after which the least disturbed samples are taken, per wanted sample.
    """

    samples: int = 9
    sample_ms: float = 60.0
    max_others: float = 0.08
    tries: int = 5


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was measured of one function.

    Args:
        median_ms: Of the samples that were kept.
        quartiles_ms: Lower and upper quartile of them.
        samples: How many were kept.
        rejected: How many were measured and not kept.
        disturbed: How many were kept although other processes were at work.
        repeats: Calls per sample.
    """

    median_ms: float
    quartiles_ms: tuple[float, float]
    samples: int
    rejected: int
    disturbed: int
    repeats: int


def time_in_turns(
    calls: Mapping[Name, Call], clock: Clock, settings: Settings
) -> dict[Name, Timing]:
    """Times functions in rounds, each in a random order of its own.

    Args:
        calls: Functions by name.
        clock: Measures them.
        settings: How carefully.

    Returns:
        By the names of the functions.
    """
    order = random.Random(0)
    repeats = {name: _repeats(call, clock, settings.sample_ms) for name, call in calls.items()}
    samples: dict[Name, list[Sample]] = {name: [] for name in calls}
    for _ in range(settings.samples * settings.tries):
        # Whoever has enough samples is left alone, which keeps slow functions from taking hours.
        waiting = [name for name in calls if _clean(samples[name], settings) < settings.samples]
        if not waiting:
            break
        for name in order.sample(waiting, len(waiting)):
            samples[name].append(clock.sample(calls[name], repeats[name]))
    return {name: summarize(samples[name], repeats[name], settings) for name in calls}


def summarize(samples: list[Sample], repeats: int, settings: Settings) -> Timing:
    """Keeps the wanted number of samples, the least disturbed ones, and describes them.

    Args:
        samples: All that were measured.
        repeats: Calls per sample.
        settings: How many are wanted, and what counts as disturbed.

    Returns:
        The description.
    """
    kept = samples
    if _clean(samples, settings) < len(samples):
        kept = sorted(samples, key=lambda sample: sample.others)[: settings.samples]
    times = sorted(sample.milliseconds for sample in kept)
    return Timing(
        median_ms=statistics.median(times),
        quartiles_ms=(quantile(times, 0.25), quantile(times, 0.75)),
        samples=len(kept),
        rejected=len(samples) - len(kept),
        disturbed=len(kept) - _clean(kept, settings),
        repeats=repeats,
    )


def quantile(ordered: list[float], share: float) -> float:
    """The number below which a share of ordered numbers lies, linear in between."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _clean(samples: list[Sample], settings: Settings) -> int:
    return sum(sample.others <= settings.max_others for sample in samples)


def _repeats(call: Call, clock: Clock, sample_ms: float) -> int:
    call.function()  # allocates, compiles, warms up
    fastest = min(clock.sample(call, 1).milliseconds for _ in range(3)) * call.times
    return max(1, math.ceil(sample_ms / max(fastest, 1e-3)))
