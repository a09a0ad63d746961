"""Costs of the model that a configuration describes."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import instantiate
from torch import nn

from piip_d2.analysis.count import CONVENTIONS, count_costs
from piip_d2.analysis.report import CostReport
from piip_d2.analysis.without_numbers import without_numbers
from piip_d2.engine import load_config

ALL = "all"


def build_without_numbers(config_file: str, overrides: Sequence[str] = ()) -> nn.Module:
    """Builds the model of a configuration on ``meta``: with all its parts, but no weights.

    Args:
        config_file: The configuration.
        overrides: ``KEY=VALUE`` each.

    Returns:
        The model.

    Raises:
        ValueError: If an override or the model's description is wrong.
        OSError: If the file cannot be read.
    """
    cfg = load_config(config_file, list(overrides))
    try:
        with without_numbers():
            model = instantiate(cfg.model)
    except TypeError as error:
        raise ValueError(f"the model of {config_file} cannot be built: {error}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{config_file} describes no model, but a {type(model).__name__}")
    return model


def count_conventions(
    model: nn.Module,
    convention: str = ALL,
    *,
    resolutions: Sequence[int] | None = None,
    image_size: tuple[int, int] | None = None,
    fused_mlp: str = "counted",
) -> dict[str, CostReport | str]:
    """Counts a model's costs in one convention or in all that are defined for it.

    Args:
        model: See :func:`count_costs`.
        convention: One of them, or ``"all"``.
        resolutions: See :func:`count_costs`.
        image_size: See :func:`count_costs`; with ``"all"`` it is for ``"actual"`` alone.
        fused_mlp: See :func:`count_costs`.

    Returns:
        By convention its report; with ``"all"``, for those that have no rule for a part of the
        model, the sentence that says so.

    Raises:
        ValueError: If a single convention is not defined for the model, or as in
            :func:`count_costs`.
    """
    if convention != ALL:
        report = count_costs(
            model,
            resolutions=resolutions,
            convention=convention,
            image_size=image_size,
            fused_mlp=fused_mlp,
        )
        return {convention: report}
    # First, as it has a rule for everything: what it refuses is wrong in itself.
    actual = count_costs(model, resolutions=resolutions, image_size=image_size)
    reports: dict[str, CostReport | str] = {}
    for name in CONVENTIONS:
        if name == actual.convention:
            reports[name] = actual
            continue
        try:
            reports[name] = count_costs(
                model, resolutions=resolutions, convention=name, fused_mlp=fused_mlp
            )
        except ValueError as error:
            reports[name] = f"not defined: {error}"
    return reports
