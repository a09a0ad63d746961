"""Why weights of another program do not fit a model, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from piip_d2.checkpoint.detectors.difference import head_difference, kind_difference
from piip_d2.checkpoint.detectors.names import OUR_PREFIX
from piip_d2.checkpoint.detectors.sources import SOURCES
from piip_d2.checkpoint.network_difference import difference
from piip_d2.engine.conversion.matching import Match


def explain(weights: Mapping[str, Tensor], model: nn.Module, match: Match) -> str:
    """Says why weights do not fit, in the most telling words that can be found.

    Args:
        weights: Tensors under the names of the source.
        model: The model they are wanted for.
        match: What became of them.

    Returns:
        A sentence with the way out.
    """
    if any(name.startswith(OUR_PREFIX) for name in weights):
        return (
            "these weights have the names of this package already: give the file as "
            "train.init_checkpoint, or convert it back with --to-official"
        )
    if not match.is_recognized:
        return (
            "these are no weights of a detector of "
            f"{', '.join(source.title for source in SOURCES.values())}: none of the "
            f"{len(weights)} names is known ({', '.join(list(weights)[:3])}, …). "
            "A backbone alone is converted by piip_d2.checkpoint.convert_backbone_state_dict; "
            "weights of a single pre-trained network are given as train.branch_weights"
        )
    wanted = model.state_dict()
    reason = _difference(weights, model, match) or head_difference(match.found, wanted)
    return f"{reason or _first_misfits(weights, wanted, match)} ({match.report.counts})"


def _difference(weights: Mapping[str, Tensor], model: nn.Module, match: Match) -> str | None:
    """Of the kind, of weights that are stored twice, and of the backbone."""
    reason = kind_difference(weights, match.form) or match.renamed.contradiction
    if reason:
        return reason
    network = model.get_submodule("backbone.bottom_up")
    foreign = match.report.foreign
    if foreign:
        return (
            f"the backbone of these weights is another than the config's {type(network).__name__}: "
            f"{len(foreign)} weights, such as {foreign[0]}, have no names there; "
            "take a config with the backbone that they were trained with"
        )
    return difference(weights, network) if match.form.has_branches else None  # type: ignore[arg-type]


def _first_misfits(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], match: Match
) -> str:
    report = match.report
    first = [
        *(f"{name} {tuple(wanted[name].shape)} is not in the file" for name in report.missing[:1]),
        *(
            f"the model has no place for {name} {tuple(weights[name].shape)}"
            for name in report.unexpected[:1]
        ),
        *(
            f"{name} has the shape {given} in the file and {own} in the model"
            for name, (given, own) in list(report.misshapen.items())[:1]
        ),
    ]
    return (
        f"these weights do not fit the model of the config: {'; '.join(first)}; "
        "take the config that they were trained with"
    )
