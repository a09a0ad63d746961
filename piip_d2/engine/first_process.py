"""What one process does for all of them."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.utils import comm


def in_first_process(act: Callable[[], object]) -> None:
    """Lets the first process act; all wait for it, and all raise an error where it fails.

    A process that raised alone would leave the others waiting for it, on other machines for ever.

    Args:
        act: What to do; it must not wait for other processes.

    Raises:
        ValueError: In all processes, if ``act`` raised it.
        OSError: In all processes, if ``act`` raised it or ``RuntimeError``.
    """
    failure: OSError | ValueError | None = None
    cause: Exception | None = None
    if comm.is_main_process():
        # An error of another class might not come through to the others.
        try:
            act()
        except ValueError as error:
            failure, cause = ValueError(str(error)), error
        except (OSError, RuntimeError) as error:
            failure, cause = OSError(str(error)), error
    failure = comm.all_gather(failure)[0]
    if failure is not None:
        raise failure from cause
