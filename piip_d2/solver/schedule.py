"""What PIIP's schedules need beside the schedulers of fvcore and Detectron2."""

from __future__ import annotations


def warmup_fraction(num_iterations: int, max_iter: int, *, at_most: float = 0.1) -> float:
    """Turns a warm-up counted in iterations into the fraction that Detectron2 wants.

    ``WarmupParamScheduler`` measures in fractions of the run, so that a constant in a config would
    shrink or stretch the warm-up whenever ``train.max_iter`` is changed.

    Args:
        num_iterations: Length of the warm-up in iterations.
        max_iter: Length of the run in iterations.
        at_most: Longest warm-up allowed, as a fraction of the run. It matters for short runs
            only, which would otherwise reach their first drop of the rate before the full rate.

    Returns:
        Length of the warm-up as a fraction of the run.

    Raises:
        ValueError: If an argument is out of its range.
    """
    if max_iter < 1:
        raise ValueError(f"max_iter ({max_iter}) must be at least 1")
    if num_iterations < 0:
        raise ValueError(f"num_iterations ({num_iterations}) must not be negative")
    if not 0.0 <= at_most < 1.0:
        raise ValueError(f"at_most ({at_most}) must lie in [0, 1)")
    return min(num_iterations / max_iter, at_most)
