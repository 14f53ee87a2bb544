"""Scores first, bounds later: what a plan decides by as columns, what bounds keep of it, and the recipe with them.

::

    score_dataset(dataset).to_parquet("scored")          # or: tamis score RECIPE --out scored
    run = scored_run("scored")
    chosen = keep_share(run.dataset, run.decisions, 0.8)
    count_bounds(run.dataset, chosen)                    # what each bound keeps, alone and with the others
    recipe_with_bounds(run.recipe, {m.column: (m.low, m.high) for m in chosen if isinstance(m, Measure)})
"""

from tamis.filters.measures import Measure, Verdict, measures_of, verdicts_of
from tamis.thresholds.counts import Bound, BoundCount, Counted, count_bounds
from tamis.thresholds.propose import bounds_set, drop_each, keep_share
from tamis.thresholds.recipe_text import recipe_with_bounds, tuned_recipe
from tamis.thresholds.scored import ScoredRun, recipe_of, score_dataset, scored_run

__all__ = [
    "Bound",
    "BoundCount",
    "Counted",
    "Measure",
    "ScoredRun",
    "Verdict",
    "bounds_set",
    "count_bounds",
    "drop_each",
    "keep_share",
    "measures_of",
    "recipe_of",
    "recipe_with_bounds",
    "score_dataset",
    "scored_run",
    "tuned_recipe",
    "verdicts_of",
]
