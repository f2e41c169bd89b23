"""What a visit measures: generator functions of (settings, folder with weights and starts), each in its own process."""

from __future__ import annotations


class RefusedError(Exception):
    """The whole visit makes no sense on this machine; the message says what to do."""
