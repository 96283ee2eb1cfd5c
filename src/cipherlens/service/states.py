"""The states of a job."""

from __future__ import annotations

STATES = ("queued", "running", "done", "failed", "cancelled")
UNFINISHED = STATES[:2]
