"""What the statistics return: frozen values, JSON-able by ``dataclasses.asdict`` (no NaN, no infinity)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LIMIT: Final = "BCa bootstrap, limit of many resamples"
"""Method of an ``Interval`` whose ends are computed from moments."""

ALL_EQUAL: Final = "bootstrap, all values equal"
"""Method of an ``Interval`` of equal values, where BCa is undefined and every resample's mean is that one value."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval of a mean.

    BCa is Efron's bias-corrected and accelerated bootstrap (JASA 82(397), 1987, doi 10.1080/01621459.1987.10478410);
    of pairs, where there are pairs. Below 20 values it is too narrow (a note says so), and it cannot know of a heavy
    tail that the sample does not show.

    Attributes:
        low: lower end, in the unit of the values.
        high: upper end.
        confidence: nominal coverage, in (0, 1).
        method: ``"BCa bootstrap, 9,999 resamples"``, seeded; fewer of more than 1,000 values of which one or two decide
            the mean. ``LIMIT``: BCa's ends for infinitely many resamples, by Cornish and Fisher's expansion (1938, doi
            10.2307/1400905), of other samples of more than 1,000 values and wherever resampling would take too long.
            ``ALL_EQUAL``.
    """

    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True, slots=True)
class SignedRank:
    """Wilcoxon's signed-rank test (1945, doi 10.2307/3001968) that the differences d are symmetric about zero.

    Two-sided. If d is symmetric about some centre, it tests the mean and the median; of skewed d it tests neither, but
    whether one sign outweighs the other by rank. Below 6 differences other than zero p cannot reach 0.05.

    Attributes:
        statistic: min(R+, R-), the smaller sum of the ranks of |d|, over d > 0 and over d < 0.
        p: two-sided p-value, uncorrected, in [0, 1].
        zeros: number of differences that are zero.
        zero_method: ``"pratt"``: zeros take part in the ranking, then leave both sums (Pratt 1959, doi
            10.1080/01621459.1959.10501526). An unchanged image is a real observation that quantization often makes;
            Wilcoxon's own rule would drop it and judge only the others.
        null: where p comes from: ``"exact"`` up to 50 differences other than zero, with ties too; else SciPy's
            ``"normal approximation"``; or ``"all zero"`` (then p = 1).
    """

    statistic: float
    p: float
    zeros: int
    zero_method: Literal["pratt"]
    null: Literal["exact", "normal approximation", "all zero"]


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Whether the mean difference lies inside ±margin, judged in two ways that must agree.

    TOST, two one-sided t-tests (Schuirmann 1987, doi 10.1007/BF01068419): t = (d̄ ± margin)/(s/√n) on n - 1 degrees of
    freedom, d̄ the mean and s the standard deviation of d. It assumes a nearly normal d̄; scores are skewed, so the
    bootstrap interval must lie inside ±margin as well. Meaningless with a margin chosen after seeing the result. Where
    all differences are equal, s = 0 and p is taken at its limit: 0, 1/2 or 1 inside, on or outside the margin.

    Attributes:
        margin: largest mean difference that does not matter, above 0, in the unit of the scores.
        alpha: level of each one-sided test.
        p: the larger of the two one-sided p-values; None below 2 pairs.
        t_low: t of the test against -margin; None where the spread is zero or unknown.
        t_high: t of the test against +margin; None likewise.
        df: degrees of freedom, n - 1; None below 2 pairs.
        interval: confidence interval of the mean at 1 - 2·alpha; None below 5 pairs.
        by_t: p <= alpha; None without p.
        by_interval: the interval lies strictly inside ±margin; None without it.
        equivalent: both of them; None where either is None.
        beyond: the interval lies wholly outside ±margin; None without it.
    """

    margin: float
    alpha: float
    p: float | None
    t_low: float | None
    t_high: float | None
    df: int | None
    interval: Interval | None
    by_t: bool | None
    by_interval: bool | None
    equivalent: bool | None
    beyond: bool | None


@dataclass(frozen=True, slots=True)
class PairedResult:
    """The differences d = a - b over the images where both have a finite value.

    Attributes:
        n: pairs used.
        excluded: pairs left out; never averaged in.
        infinite: those among them with an infinite value or difference; the others lack a value (NaN or None).
        mean: of d; None when n is 0.
        median: of d, which is not the difference of the medians; None when n is 0.
        sd: standard deviation of d, n - 1 in the denominator; None when n < 2.
        confidence: of ``interval``; the tests use the level 1 - confidence.
        interval: confidence interval of the mean; None when n < 5.
        signed_rank: Wilcoxon's test; None when n is 0.
        rank_biserial: matched-pairs rank-biserial correlation (R+ - R-) / (n(n + 1)/2), [-1, 1], R± the rank sums of
            ``signed_rank``; positive where a is greater (Kerby 2014, doi 10.2466/11.IT.3.1). Zeros are ranked and speak
            for neither side, so it shrinks with them; libraries that drop zeros agree where there are none.
        d_z: Cohen's d_z = mean / sd (Lakens 2013, doi 10.3389/fpsyg.2013.00863), not corrected for small n; None where
            sd is 0 or unknown. Not to be compared with a d of independent groups.
        equivalence: within the stated margin.
        notes: what a reader must know about how the numbers came about, a sentence each.
        p_adjusted: the signed-rank p-value after Holm's correction, set by ``family``.
        family_size: number of p-values that were corrected together, set by ``family``.
    """

    n: int
    excluded: int
    infinite: int
    mean: float | None
    median: float | None
    sd: float | None
    confidence: float
    interval: Interval | None
    signed_rank: SignedRank | None
    rank_biserial: float | None
    d_z: float | None
    equivalence: Equivalence
    notes: tuple[str, ...]
    p_adjusted: float | None = None
    family_size: int | None = None

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return self.equivalence.alpha

    @property
    def p(self) -> float | None:
        """The signed-rank p-value to judge by: corrected where ``family`` has run, else as it is."""
        if self.p_adjusted is not None or self.signed_rank is None:
            return self.p_adjusted
        return self.signed_rank.p

    @property
    def distinguishable(self) -> bool | None:
        """True where ``p`` is at most alpha; None without a test. False never means that there is no difference."""
        return None if self.p is None else self.p <= self.alpha


@dataclass(frozen=True, slots=True)
class Summary:
    """One sample of scores.

    Attributes:
        n: finite values.
        excluded: values left out; never averaged in.
        infinite: those among them that are infinite; the others are NaN or None.
        mean: None when n is 0.
        sd: standard deviation, n - 1 in the denominator; None when n < 2.
        interval: confidence interval of the mean; None when n < 5.
        notes: what a reader must know about how the numbers came about, a sentence each.
    """

    n: int
    excluded: int
    infinite: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    notes: tuple[str, ...]
