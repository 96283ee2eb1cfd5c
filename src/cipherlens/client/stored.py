"""What a server keeps for a tenant, in short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cipherlens.client.transfer import read_id
from cipherlens.errors import ServerError


@dataclass(frozen=True)
class DataSet:
    """A data set on the server: its id, and how many images in how many files it has."""

    id: str
    images: int
    files: int

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> DataSet:
        """One of a server's list. Raises ServerError when it is none."""
        files = values.get("file_ids")
        if not isinstance(files, list):
            raise ServerError("the server lists a data set without its files; check its version")
        return cls(read_id(values, "dataset_id"), _count(values.get("images")), len(files))


@dataclass(frozen=True)
class Usage:
    """What a tenant stores and may store.

    Attributes:
        stored: bytes of all files. quota: bytes that they may have.
        unfinished_jobs: queued and running. quota_jobs: how many may be.
        quota_memory: bytes that one job may take, by forecast.
        retention_days: after so long files are deleted with all that was made of them; None without a limit.
    """

    stored: int
    quota: int
    unfinished_jobs: int
    quota_jobs: int
    quota_memory: int
    retention_days: float | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Usage:
        """A server's answer. Raises ServerError when it is none."""
        stored, days = values.get("stored"), values.get("retention_days")
        if not isinstance(stored, dict) or type(days) not in (int, float, type(None)):
            raise ServerError("the server does not say what it stores; check its version")
        return cls(
            sum(_count(size) for size in stored.values()),
            _count(values.get("quota_bytes")),
            _count(values.get("unfinished_jobs")),
            _count(values.get("quota_jobs")),
            _count(values.get("quota_memory")),
            None if days is None else float(days),
        )


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ServerError("the server gives a size or number that is none; check its version")
    return value
