"""Lets the branches of a pyramid begin from the weights of single pre-trained networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from piip_d2.checkpoint.branch_families import find_family
from piip_d2.checkpoint.branch_fitting import BranchWeightsReport, fit_branch_weights
from piip_d2.checkpoint.reading import CheckpointReadError
from piip_d2.checkpoint.weight_files import check_timm_name, is_of_timm, read_weights
from piip_d2.modeling.backbone.branch import Branch
from piip_d2.modeling.backbone.network import PIIPNetwork

logger = logging.getLogger(__name__)


def load_branch_weights(
    branch: Branch, source: str | Mapping[str, Tensor], *, name: str = "the branch"
) -> BranchWeightsReport:
    """Loads the weights of a single network into a branch, converted to its names and sizes.

    What kind of network they are of is told by their names: a plain vision transformer (timm,
    DeiT, DeiT III, AugReg, MAE, DINOv2, InternViT), a BEiT, a Uni-Perceiver or a ConvNeXt (timm's,
    its authors' or Hugging Face's names). Position tables, patch embeddings and tables of relative
    positions are stretched to the branch's. Nothing is loaded unless all of the branch is there;
    only a position table and LayerScale that changes nothing may be missing.

    Args:
        branch: The branch.
        source: Tensors by name, or where to read them, see
            :func:`piip_d2.checkpoint.weight_files.read_weights`.
        name: What messages call the branch.

    Returns:
        What was matched, resized, missing and left out; it is also logged.

    Raises:
        ValueError: If the weights cannot be read, are of another kind or size, or are not finite.
    """
    return _load(_prepare(branch, source, name))


def load_network_weights(
    model: torch.nn.Module, sources: Sequence[str]
) -> list[BranchWeightsReport | None]:
    """Loads the weights of single networks into the branches of a model's pyramid.

    Nothing is loaded unless all of them fit.

    Args:
        model: A model with one :class:`PIIPNetwork` somewhere inside.
        sources: One for each branch, see :func:`load_branch_weights`, largest resolution first;
            "" leaves a branch as it is.

    Returns:
        One report for each branch, in the same order; None where there was nothing to load.

    Raises:
        ValueError: If there is no pyramid, if the number is not that of its branches, or if some
            weights cannot be read or do not fit.
    """
    networks = [module for module in model.modules() if isinstance(module, PIIPNetwork)]
    if len(networks) != 1:
        raise ValueError(
            f"weights of branches need a model with one PIIP backbone, but a "
            f"{type(model).__name__} has {len(networks)} of them"
        )
    # Inside, resolutions ascend.
    branches = [branch for branch in reversed(networks[0].branches) if isinstance(branch, Branch)]
    _check_list(sources, len(branches))
    # What is wrong with the last one must show before the first one is changed.
    prepared = [
        _prepare(branch, source, f"branch {number} ({type(branch).__name__} at {branch.img_size})")
        if source
        else None
        for number, (branch, source) in enumerate(zip(branches, sources, strict=True), start=1)
    ]
    return [_load(one) if one else None for one in prepared]


def check_network_weights(sources: Sequence[str], num_branches: int | None = None) -> None:
    """Finds, as far as that is quick, what :func:`load_network_weights` would complain of.

    Files are looked into for names alone, and what is behind addresses is fetched; of timm's
    weights only the name is checked.

    Args:
        sources: One for each branch, largest resolution first.
        num_branches: How many branches there are, if that is known.

    Raises:
        ValueError: If the number is not that of the branches, or if a source is not there, cannot
            be read, or is of no known kind of network.
    """
    _check_list(sources, num_branches)
    for number, source in enumerate(sources, start=1):
        if not source:
            continue
        if is_of_timm(source):
            check_timm_name(source)
            continue
        try:
            find_family(read_weights(source, verify=False))
        except CheckpointReadError:
            raise
        except ValueError as error:
            raise ValueError(f"{source} cannot be loaded into branch {number}: {error}") from error


def _check_list(sources: Sequence[str], num_branches: int | None) -> None:
    wrong = isinstance(sources, str) or (num_branches is not None and len(sources) != num_branches)
    if wrong or not all(source is None or isinstance(source, str) for source in sources):
        seen = repr(sources) if isinstance(sources, str) else f"{len(sources)}: {list(sources)}"
        length = "" if num_branches is None else f" of {num_branches}"
        raise ValueError(
            f"weights of branches must be a list{length}, one for each branch, largest resolution "
            f'first and "" for none, got {seen}'
        )


@dataclass(frozen=True)
class _Prepared:
    """Weights that fit a branch and are not yet in it."""

    branch: Branch
    weights: Mapping[str, Tensor]
    report: BranchWeightsReport
    sentence: str


def _prepare(branch: Branch, source: str | Mapping[str, Tensor], name: str) -> _Prepared:
    place = source if isinstance(source, str) else "the given weights"
    weights = read_weights(source) if isinstance(source, str) else dict(source)
    try:
        fitted, report = fit_branch_weights(branch, weights)
    except ValueError as error:
        raise ValueError(f"{place} cannot be loaded into {name}: {error}") from error
    return _Prepared(branch, fitted, report, f"Loaded {place} into {name}: {report}.")


def _load(prepared: _Prepared) -> BranchWeightsReport:
    report = prepared.report
    prepared.branch.load_state_dict(prepared.weights, strict=False)
    surprising = report.unknown or "pos_embed" in report.missing
    logger.log(logging.WARNING if surprising else logging.INFO, "%s", prepared.sentence)
    return report
