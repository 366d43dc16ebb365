"""Several seeds as one number with a band."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from audit.report.rows import Row
from audit.report.schema import Headline, Interval

T_975 = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
    2.12,
    2.11,
    2.10,
    2.09,
)
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 + 2.6 / df beyond."""


def over_seeds(values: Sequence[Interval | Headline]) -> Interval:
    """Mean over seeds and its band; one seed keeps its own bootstrap interval.

    Two seeds give their range, more a 95 % t-interval of the mean, kept within 0 and 1 if all the values are.
    """
    if len(values) == 1:
        return Interval(values[0].value, values[0].low, values[0].high)
    each = [one.value for one in values]
    mean = fmean(each)
    if len(each) == 2:
        return Interval(mean, min(each), max(each))
    freedom = len(each) - 1
    t = T_975[freedom - 1] if freedom <= len(T_975) else 1.96 + 2.6 / freedom
    reach = t * stdev(each) / math.sqrt(len(each))
    low, high = mean - reach, mean + reach
    if min(each) >= 0 and max(each) <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(mean, low, high)


def band_note(rows: Sequence[Row]) -> str:
    """What the bands are."""
    seeds = Counter((row.group, row.ratio, row.is_control, row.step) for row in rows)
    most = max(seeds.values(), default=1)
    if most == 1:
        return "One seed: the band is the 95 % bootstrap interval of each audit, not a spread over seeds."
    kind = "the range of two seeds" if most == 2 else f"a 95 % t-interval of the mean over up to {most} seeds"
    return f"The band is {kind}; a point with one seed has its own 95 % bootstrap interval."
