"""How much a network says for its size: information criteria, done properly and as a study of a VGG19 published them.

With L the likelihood of n labels, k the parameters and s of them not zero:

    AIC    2 s - 2 ln L                                    Akaike 1974
    BIC    s ln n - 2 ln L                                 Schwarz 1978
    MDL    -log2 L + log2 (k + 1) + log2 (k choose s) + s b    Rissanen 1978, in bits: the labels given the network, how many weights
                                                           are not zero, which ones, and each of them in b bits

As published (`as_published`): AIC = 2 k, BIC = k ln 3421, MDL = BIC / 8. These three rank networks by k alone. n was the size of a test
split, and the likelihood is missing.

Worked example. A network of one weight that is not zero, b = 8, gives each of 4 labels the probability 1/2: -ln L = 4 ln 2 = 2.77.

    AIC = 2 + 5.55 = 7.55,    BIC = ln 4 + 5.55 = 6.93,    MDL = 4 + log2 2 + log2 1 + 8 = 13 bits

Weights count one by one here. Trained networks have fewer effective degrees of freedom, so all of these are upper bounds of complexity.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

PUBLISHED_N = 3421
"""Cases of the test split that the published figures are computed with."""


@dataclass(frozen=True)
class Parsimony:
    """Information criteria of one network.

    Args:
        parameters: k.
        nonzeros: s.
        cases: n.
        nll: -ln L, in nats.
        aic: Akaike's criterion.
        bic: Schwarz's criterion.
        mdl_bits: length of the two-part description, in bits.
        bits_per_weight: b.
    """

    parameters: int
    nonzeros: int
    cases: int
    nll: float
    aic: float
    bic: float
    mdl_bits: float
    bits_per_weight: int

    def as_dict(self) -> dict[str, object]:
        """Return it as plain JSON, with the published forms."""
        return {**asdict(self), "as_published": as_published(self.parameters)}


def parsimony(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], parameters: int, nonzeros: int, bits: int = 32
) -> Parsimony:
    """Return the criteria of a network.

    Args:
        probabilities: what it gives, (n, K), rows that sum to 1.
        labels: the true classes, (n,).
        parameters: k.
        nonzeros: s.
        bits: bits that each weight is stored in, b: 32, or 8 for int8.

    Example:
        >>> found = parsimony(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), parameters=1, nonzeros=1, bits=8)
        >>> f"{found.aic:.2f} {found.bic:.2f} {found.mdl_bits:.2f}"
        '7.55 6.93 13.00'
    """
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    nll = -float(np.log(np.maximum(chosen, 1e-300)).sum())
    support = (gammaln(parameters + 1) - gammaln(nonzeros + 1) - gammaln(parameters - nonzeros + 1)) / math.log(2)
    mdl = nll / math.log(2) + math.log2(parameters + 1) + float(support) + nonzeros * bits
    return Parsimony(parameters, nonzeros, len(labels), nll, 2 * nonzeros + 2 * nll, nonzeros * math.log(len(labels)) + 2 * nll, mdl, bits)


def as_published(parameters: int) -> dict[str, float]:
    """Return AIC, BIC and MDL as the study of a VGG19 has them.

    Example:
        >>> {name: f"{value:.4g}" for name, value in as_published(139_603_016).items()}
        {'aic': '2.792e+08', 'bic': '1.136e+09', 'mdl': '1.42e+08'}
    """
    bic = parameters * math.log(PUBLISHED_N)
    return {"aic": 2.0 * parameters, "bic": bic, "mdl": bic / 8}
