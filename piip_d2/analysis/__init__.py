"""Counts what a network costs, in three labelled conventions. Needs Detectron2."""

from piip_d2.analysis.count import CONVENTIONS, count_costs
from piip_d2.analysis.operators import fvcore_handles
from piip_d2.analysis.report import CostReport, PartCost

__all__ = ["CONVENTIONS", "CostReport", "PartCost", "count_costs", "fvcore_handles"]
