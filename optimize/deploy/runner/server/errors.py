"""The two ways in which a server says no to a request. Neither text repeats what was sent."""

from __future__ import annotations


class BadRequest(ValueError):
    """What is wrong with a request, and its HTTP status.

    Args:
        text: one line for the client.
        status: HTTP status of the answer.

    Example:
        >>> BadRequest("`inputs` must be a list.").status
        400
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Full(RuntimeError):
    """No place is free, or the time was up before the model had answered: the client may come back.

    >>> str(Full("all 17 places are taken"))
    'all 17 places are taken'
    """
