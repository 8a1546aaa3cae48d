"""Paired differences of scores over images, and what is needed to judge them. Imports specs only.

One value per image and precision goes in; intervals, tests, effect sizes and plain sentences come out. SciPy and
statsmodels do the work. Eight calls are all there is::

    result = paired(w8a8, float32, margin=0.05)      # one comparison, differences a - b
    results = family({"W8A8": ..., "W4A8": ...})     # Holm's correction over several comparisons
    text = in_words(results["W8A8"], what="CC")      # the same in one or two sentences
    about = summary(w8a8)                            # one sample on its own
    adjusted = holm([0.01, 0.04, 0.03])              # bare p-values
    low, high = wilson([3, 9], [10, 10])             # intervals of proportions
    area = auroc(drift, flipped)                     # does a score tell two groups apart?
    drop, low, high = paired_difference(7, 2, 0, 1)  # of two proportions of the same images

Everything here takes the images for independent draws from the population that is spoken of. Do not use it on frames
of one video, crops of one photograph or near-duplicates: the pairs must first be averaged within such a group.
"""

from quantviz.statistics.correction import family, holm
from quantviz.statistics.paired import paired, summary
from quantviz.statistics.proportions import exact_high, exact_low, paired_difference, wilson
from quantviz.statistics.ranking import Auroc, auroc
from quantviz.statistics.results import ALL_EQUAL, LIMIT, Equivalence, Interval, PairedResult, SignedRank, Summary
from quantviz.statistics.words import in_words

__all__ = [
    "ALL_EQUAL",
    "LIMIT",
    "Auroc",
    "Equivalence",
    "Interval",
    "PairedResult",
    "SignedRank",
    "Summary",
    "auroc",
    "exact_high",
    "exact_low",
    "family",
    "holm",
    "in_words",
    "paired",
    "paired_difference",
    "summary",
    "wilson",
]
