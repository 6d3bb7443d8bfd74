"""Workers: processes, or parts of serving ones, that run jobs."""

from __future__ import annotations

from .worker import Worker

__all__ = ["Worker"]
