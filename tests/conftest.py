"""What all tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgresql import Cluster, missing
from pydantic import SecretStr


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server of its own."""
    if reason := missing():
        pytest.skip(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> SecretStr | None:
    """Where a service's database is: None for SQLite in its folder, or an empty one in PostgreSQL.

    A test that asks for it runs with both, unless it says by `parametrize(..., indirect=True)` which.
    """
    if request.param == "sqlite":
        return None
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.new_database()
