"""A limit that is a share of the original's figure, "1%", where a plain number is a difference, "1pp"."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


class Relative(float):
    """A limit that is a share of the original's figure, "1%", where a plain float is a difference, "1pp".

    Multiplied or divided by a number it stays relative. As a difference it is `absolute(limit, figure)`.

    >>> str(Relative(0.05) / 2), str(3 * Relative(0.05))
    ('2.500%', '15.00%')
    """

    def __mul__(self, factor: object) -> Any:
        # By decimals: 3 * 0.05 in floats is 0.15000000000000002. Times an array it is a plain number, as numpy would have it.
        return Relative(self._decimal() * Decimal(repr(float(factor)))) if isinstance(factor, int | float) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> Any:
        return Relative(self._decimal() / Decimal(repr(float(divisor)))) if isinstance(divisor, int | float) else NotImplemented

    def _decimal(self) -> Decimal:
        return Decimal(float.__repr__(self))

    def __str__(self) -> str:
        # Through the shortest decimal form: 0.07 * 100 in floats is 7.000000000000001, and a limit must read as it was set.
        return f"{self._decimal() * 100:f}%"
