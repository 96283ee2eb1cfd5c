"""What all tests may ask for."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog
from cli_workflow import Workflow, workflow
from postgresql import Cluster, missing
from pydantic import SecretStr


def pytest_configure() -> None:
    """Processes in the background ignore Ctrl-C, as those of pytest-xdist do, and so would all commands that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_of_this_test_alone() -> Iterator[None]:
    """A service's log, set up within a test, holds the standard error of that test, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The folder of a small task, in which every command has run."""
    return workflow(tmp_path_factory.getbasetemp())


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
