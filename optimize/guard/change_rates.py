"""At which rates cases are lost or gained in each class, as the guard split shows it: a sample of the posterior distribution.

A class of 60 cases of which none was lost does not lose nothing: at a true rate of 2 % this happens three times in ten. But the classes of
one network lose about as much. So the rates of the classes are drawn from one beta distribution, whose mean and spread are not known and
are estimated from all classes together (a hierarchical model: Gelman et al., Bayesian Data Analysis, 3rd edition 2013, section 5.3; the
shrinkage of empirical Bayes, with the uncertainty of the common distribution kept):

    h_k ~ Binomial(n_k, p_k),      p_k ~ Beta(a, a (1 - m) / m),      m and a on a grid.

`m` is the mean rate of a class. `a` says how alike the classes are: with a = 1 their rates follow about an exponential distribution, where
the standard deviation equals the mean; with a = 16 it is a quarter of the mean. The prior of m is uniform. That is worth one case: where 0
of 1,000 cases were lost, the mean rate is about 1 in 1,000, and not 0. The error on this side is deliberate. A search judges dozens of
proposals on the same cases and keeps the boldest that passes, so what it keeps is luckier than the rest.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, logsumexp

from optimize.guard.score_intervals import Doubles

MEANS = np.geomspace(1e-5, 0.5, 64)
"""Grid of the mean rate."""
SHAPES = np.array([0.5, 1.0, 2.0, 4.0, 16.0])
"""Grid of the likeness of the classes, each equally likely at first."""


def sampled_rates(changed: Doubles, cases: Doubles, count: int, rng: np.random.Generator) -> Doubles:
    """Draws of the rate of each class from its posterior distribution, (count, K).

    Args:
        changed: number of cases of each class that changed, (K,); effective numbers may be fractions.
        cases: number of cases of each class, (K,); with 0 a class follows the others.
        count: number of draws.
        rng: source of random numbers.

    Example:
        >>> rates = sampled_rates(np.array([0.0, 9.0]), np.array([60.0, 900.0]), 4000, np.random.default_rng(0))
        >>> [f"{100 * mean:.1f} %" for mean in rates.mean(0)]
        ['0.9 %', '1.0 %']
    """
    shape, mean = (grid.ravel() for grid in np.meshgrid(SHAPES, MEANS, indexing="ij"))
    rest = shape * (1 - mean) / mean
    # The chance of all counts at each point of the grid, with the rates of the classes integrated out (beta-binomial).
    likelihood = betaln(shape[:, None] + changed, rest[:, None] + cases - changed) - betaln(shape, rest)[:, None]
    # The grid of means is even in log m, so a uniform prior of m weighs each point with m.
    log_weights = likelihood.sum(1) + np.log(mean)
    weights = np.exp(log_weights - logsumexp(log_weights))
    # Systematic sampling: as many draws of each point as its weight says, up to one. Independent draws would add noise for nothing.
    picked = np.searchsorted(np.cumsum(weights), (np.arange(count) + 0.5) / count).clip(max=len(weights) - 1)
    return np.asarray(rng.beta(shape[picked, None] + changed, rest[picked, None] + np.maximum(cases - changed, 0.0)))
