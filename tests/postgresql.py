"""A real PostgreSQL server for tests: a cluster of its own in a temporary folder, gone afterwards."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from pydantic import SecretStr

USER = "postgres"
PASSWORD = "a-word-that-no-log-may-hold"
ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


def programs() -> Path | None:
    """The folder of the newest installed version's programs."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    return max([*found, *(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))], default=None)


def missing() -> str | None:
    """Why there can be no server here, None when there can."""
    if programs() is None:
        return "needs PostgreSQL: sudo apt-get install postgresql"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "needs runuser, since PostgreSQL does not run as root: sudo apt-get install util-linux"
    return None


class Cluster:
    """A server, on a socket in its folder and on a port of 127.0.0.1. A context manager."""

    def __enter__(self) -> Cluster:
        self._folder = Path(tempfile.mkdtemp(prefix="cipherlens-pg-"))
        self._count = 0
        root = os.getuid() == 0
        self._as = ["runuser", "-u", USER, "--"] if root else []
        self._user = USER if root else getpass.getuser()
        if root:
            shutil.chown(self._folder, USER, USER)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._run("initdb", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}", "data")
        (self._folder / "data" / "pg_hba.conf").write_text(ACCESS)
        self.start()
        try:
            self.execute(f"ALTER USER {USER} PASSWORD '{PASSWORD}'")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "--pgdata=data", "--mode=immediate", "--wait", "stop")
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server."""
        options = f"-k {self._folder} -p {self._port} -h 127.0.0.1 -c fsync=off -c max_connections=200"
        self._run("pg_ctl", "--pgdata=data", "--log=log", "--wait", f"--options={options}", "start")

    def crash(self) -> None:
        """Stop it as a failure of the machine would, and start it again."""
        self._run("pg_ctl", "--pgdata=data", "--mode=immediate", "--wait", "stop")
        self.start()

    def new_database(self, *, password: bool = False) -> SecretStr:
        """URL of an empty database. password: over TCP with a password, instead of the socket."""
        self._count += 1
        name = f"cipherlens{self._count}"
        self.execute(f"CREATE DATABASE {name}")
        if password:
            return SecretStr(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self._port}/{name}")
        return SecretStr(f"postgresql://{USER}@/{name}?host={self._folder}&port={self._port}")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Rows, as text."""
        return self._run(
            "psql", "-h", str(self._folder), "-p", str(self._port), "-U", USER, "-d", database, "-Atc", statement
        )

    def copy(self, url: SecretStr, dump: str = "service.dump") -> SecretStr:
        """Dump a database and restore it into a new one, whose URL it is, as docs/operations.md says."""
        self._run("pg_dump", "--format=custom", f"--file={dump}", url.get_secret_value())
        restored = self.new_database()
        self._run("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={restored.get_secret_value()}", dump)
        return restored

    def _run(self, program: str, *arguments: str) -> str:
        folder = programs()
        assert folder is not None
        done = subprocess.run(
            [*self._as, str(folder / program), *arguments], cwd=self._folder, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout
