"""Why weights of another program do not fit a model, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from piip_d2.checkpoint.detector_form import DetectorForm
from piip_d2.checkpoint.detector_names import OUR_PREFIX, rename_detector, take_weights
from piip_d2.checkpoint.detector_sources import SOURCES, recognize_source
from piip_d2.checkpoint.head_difference import head_difference, kind_difference
from piip_d2.checkpoint.network_difference import difference
from piip_d2.engine.conversion_report import ConversionReport

_ANOTHER_MODEL = (
    "these weights do not fit the model of the config: take the config that they were trained with"
)


def explain(
    weights: Mapping[str, Tensor], model: nn.Module, form: DetectorForm, report: ConversionReport
) -> str:
    """Says why weights do not fit, in the most telling words that can be found.

    Args:
        weights: Tensors under the names of the source.
        model: The model they are wanted for.
        form: What was looked for.
        report: What became of every weight.

    Returns:
        A sentence with the way out.
    """
    if any(name.startswith(OUR_PREFIX) for name in weights):
        return (
            "these weights have the names of this package already: give the file as "
            "train.init_checkpoint, or convert it back with --to-official"
        )
    if recognize_source(weights) is None:
        return (
            "these are no weights of a detector of "
            f"{', '.join(source.title for source in SOURCES.values())}: none of the "
            f"{len(weights)} names is known ({', '.join(list(weights)[:3])}, …). "
            "A backbone alone is converted by piip_d2.checkpoint.convert_backbone_state_dict; "
            "weights of a single pre-trained network are given as train.branch_weights"
        )
    return f"{_difference(weights, model, form, report) or _ANOTHER_MODEL} ({report.counts})"


def _difference(
    weights: Mapping[str, Tensor], model: nn.Module, form: DetectorForm, report: ConversionReport
) -> str | None:
    other_kind = kind_difference(weights, form)
    if other_kind:
        return other_kind
    network = model.get_submodule("backbone.bottom_up")
    if report.foreign:
        return (
            f"the backbone of these weights is another than the config's {type(network).__name__}: "
            f"{len(report.foreign)} weights, such as {report.foreign[0]}, have no names there; "
            "take a config with the backbone that they were trained with"
        )
    if form.has_branches:
        found = difference(weights, network)  # type: ignore[arg-type]
        if found:
            return found
    ours = take_weights(weights, rename_detector(weights, form), form)
    return head_difference(ours, model.state_dict())
