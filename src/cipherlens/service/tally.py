"""Numbers that only grow, kept in the database for /metrics."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from cipherlens.service.database import Tally

ENDED, SECONDS, DEATHS = "jobs_ended", "job_seconds", "deaths"
"""Jobs by kind and end, seconds of work by kind, and processes that died by role."""


def add(session: Session, name: str, *labels: str, value: float = 1.0) -> None:
    """Count, within a transaction that writes."""
    key = ":".join((name, *labels))
    tally = session.get(Tally, key)
    if tally is None:
        session.add(Tally(name=key, value=value))
        session.flush()
    else:
        tally.value += value


def read(session: Session) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {ENDED: {}, SECONDS: {}, DEATHS: {}}
    for tally in session.scalars(select(Tally)):
        name, *labels = tally.name.split(":")
        found[name][tuple(labels)] = tally.value
    return found
