"""The lock of the one service on a PostgreSQL database: as long as a connection lasts, and no longer."""

from __future__ import annotations

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from cipherlens.service.engines import SERVICES


class ServiceLock:
    """An advisory lock on a connection of its own. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(transaction="none", isolation_level="AUTOCOMMIT")
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Whether the lock is held now; does not wait for it. Raises DBAPIError when the database does not answer."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return bool(self._connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({SERVICES})").scalar_one())

    def still_held(self) -> bool:
        """Whether the lock is held, or can be taken again after the connection was lost.

        True, too, while the database does not answer: nobody works on it then.
        """
        try:
            if self._connection is not None:
                self._connection.exec_driver_sql("SELECT 1")
                return True
        except DBAPIError:
            self.release()
        try:
            return self.take()
        except DBAPIError:
            self.release()
            return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._connection is not None:
            self._connection.invalidate()  # ends the session, and with it the lock
            self._connection.close()
            self._connection = None
