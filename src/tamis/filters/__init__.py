"""Filters and the stages that apply them."""

from tamis.filters.base import DocumentFilter, Filter, Score, ScoreFilter
from tamis.filters.repetition import RepeatingTopNGramsFilter
from tamis.filters.surface import WordCountFilter
from tamis.filters.where import Where, parse_expression

__all__ = [
    "DocumentFilter",
    "Filter",
    "RepeatingTopNGramsFilter",
    "Score",
    "ScoreFilter",
    "Where",
    "WordCountFilter",
    "parse_expression",
]
