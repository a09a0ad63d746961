"""Times calls that take long: as many samples as fit into a given time, behind some to warm up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch

from benchmarks.msda.timing import Call, Clock, CpuClock, CudaClock, Settings, Timing, summarize


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to measure.

    Args:
        samples: At most this many samples.
        at_least: Samples that are taken even if they take longer than ``seconds``.
        seconds: After these no further sample is begun.
        sample_s: Shortest sample; short calls are made several times in a row.
        always_warm_up: Whether to warm up also where the first call took long, as compiling does.
    """

    samples: int = 7
    at_least: int = 3
    seconds: float = 20.0
    sample_s: float = 0.05
    always_warm_up: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out.

    Args:
        timing: Of all samples.
        first_s: Seconds of the first call, in which everything is compiled and allocated.
    """

    timing: Timing
    first_s: float


def measure(
    function: Callable[[], object],
    device: torch.device,
    patience: Patience,
    *,
    after_first: Callable[[], object] | None = None,
) -> Measured:
    """Times a function.

    Args:
        function: What is called.
        device: Where it works; on a GPU the time is taken there.
        patience: How long to measure.
        after_first: Called once behind the first call, which compiles and allocates.

    Returns:
        Times of single calls.
    """
    clock: Clock = CudaClock() if device.type == "cuda" else CpuClock()
    call = Call(function)
    first_s = timed(function, device)
    if after_first is not None:
        after_first()
    # Compiled functions record a graph in the second call, which they replay in the third.
    warms_up = patience.always_warm_up or first_s < patience.seconds / 3
    warm_s = [timed(function, device) for _ in range(2)] if warms_up else []
    repeats = max(1, round(patience.sample_s / max(warm_s[-1], 1e-6))) if warm_s else 1
    samples = []
    start = time.perf_counter()
    while len(samples) < patience.samples:
        if len(samples) >= patience.at_least and time.perf_counter() - start > patience.seconds:
            break
        samples.append(clock.sample(call, repeats))
    # All of them count: none is taken out of a short series.
    return Measured(summarize(samples, repeats, Settings(samples=len(samples))), first_s)


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until a GPU is done with it too."""
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
