"""How well predicted tags fit the true ones: folds, intervals, comparisons and the page that shows them."""

from tamis.evaluation.report import Baseline, Comparison, Difference, Measure, OfTag, TagReport
from tamis.evaluation.tag_scores import TagLists, TagScores

__all__ = ["Baseline", "Comparison", "Difference", "Measure", "OfTag", "TagLists", "TagReport", "TagScores"]
