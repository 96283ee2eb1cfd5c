"""Logs: one JSON object a line on stderr. They name ids, kinds and sizes, and never labels, scores, keys or tokens."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog


def configure(process: str) -> None:
    """Set up this process's log. process: its name in each line."""
    logging.basicConfig(level=logging.CRITICAL + 1, force=True)  # libraries may put anything into their messages
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process)


def say(event: str, **values: object) -> None:
    """One line."""
    structlog.get_logger().info(event, **values)


def defect(event: str, error: BaseException, **values: object) -> None:
    """A line about an exception that nobody expected: its class and places, but not its message, which may hold data."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
    structlog.get_logger().error(event, error=type(error).__name__, places=places, **values)
