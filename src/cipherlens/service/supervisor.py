"""The first process of a service: starts the one that answers and those that compute, and replaces those that die."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cipherlens.errors import InputError, ServerError
from cipherlens.service.database import Database, new_id
from cipherlens.service.errors import Unavailable
from cipherlens.service.jobs import Jobs
from cipherlens.service.logging import configure, say
from cipherlens.service.pieces import make_folder
from cipherlens.service.process import open_many_files
from cipherlens.service.settings import Settings
from cipherlens.service.storage import open_store
from cipherlens.service.sweep import Sweeper

POLL_SECONDS = 0.05
GRACE_SECONDS = 20.0
"""How long children may take to end after SIGTERM: a worker stops at the next group of images and saves its sums."""

LOCK_SECONDS = 10.0
CHECK_SECONDS = 1.0
"""Between two looks at whether the database is still this service's alone."""

SOON_SECONDS = 2.0
LONGEST_PAUSE = 10.0
MOST_FAILURES = 12
START_SECONDS = 60.0
"""How long the web process may take at the start until it answers."""

MOST_FIRST_FAILURES = 3
"""Times that it may die before it has ever answered: what is wrong then will not pass by itself."""

BACKLOG = 256


@dataclass
class Child:
    """A process that is to run, whoever runs it at present.

    Attributes:
        name: of the current process; each gets a new one.
        failures: times in a row that it died soon after its start.
        again: when to start it next, by the monotonic clock.
    """

    role: str
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    again: float = 0.0


@dataclass(frozen=True)
class Inherited:
    """Descriptors that children take over.

    Attributes:
        server: the socket. told: a pipe that the web process writes to when it answers. Both are its alone.
        alive: a pipe that ends when this process does.
        lock: goes along so that no other service begins while a child of this one is still there.
    """

    server: int
    told: int
    alive: int
    lock: int


class Supervisor:
    """One service on one folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = False
        self._answered = False
        self._children = [Child("web"), *(Child("worker") for _ in range(settings.workers))]

    def run(self, listening: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT. listening: called with the URL once the web process answers.

        Raises:
            InputError: the settings do not go together, the folder is in use by another service or cannot be written,
                or nothing can listen on the address.
            ServerError: a process ends again and again as soon as it is started, the web process does not answer in time,
                or another service took the database
                while it was out of reach.
        """
        self._settings.check_listening()
        configure("supervisor")
        open_many_files()
        with locked(self._settings.data) as lock, _listen(self._settings) as (server, url):
            database = Database(self._settings.data, self._settings.database)
            store = open_store(self._settings.data, self._settings.storage, self._settings.cache_bytes)
            store.make()
            jobs = Jobs(database, store, self._settings.lease_seconds)
            sweeper = Sweeper(database, store, jobs, self._settings)
            alive, parent = os.pipe()  # children hold `alive`; it ends when this process does
            heard, told = os.pipe()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask_to_stop)
            inherited = Inherited(server.fileno(), told, alive, lock)
            try:
                with database.alone(LOCK_SECONDS) as check:
                    sweeper.start()
                    for child in self._children:
                        self._start(child, inherited)
                    say("serving", url=url, workers=self._settings.workers)
                    self._watch(jobs, sweeper, check, inherited, heard, lambda: listening(url))
            finally:
                self._end()
                for pipe in (alive, parent, heard, told):
                    os.close(pipe)
                database.close()
                say("stopped")

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _watch(
        self,
        jobs: Jobs,
        sweeper: Sweeper,
        check: Callable[[], None],
        inherited: Inherited,
        heard: int,
        answers: Callable[[], None],
    ) -> None:
        begun = checked = time.monotonic()
        while not self._stop:
            if not self._answered and select.select([heard], [], [], 0)[0]:
                self._answered = True
                answers()
            if not self._answered and time.monotonic() - begun > START_SECONDS:
                raise ServerError(
                    f"the service's web process does not answer {START_SECONDS:.0f} seconds after its start; the log says "
                    "why, else start it again when the machine has less to do"
                )
            if time.monotonic() - checked >= CHECK_SECONDS:
                check()
                checked = time.monotonic()
            for child in self._children:
                if child.process is not None and child.process.poll() is not None:
                    self._bury(child, jobs)
                    sweeper.hurry()  # it may have died between deciding what goes and removing it
                if child.process is None and time.monotonic() >= child.again:
                    self._start(child, inherited)
            sweeper.look()
            time.sleep(POLL_SECONDS)

    def _start(self, child: Child, inherited: Inherited) -> None:
        server, told, alive, lock = inherited.server, inherited.told, inherited.alive, inherited.lock
        child.name = f"{child.role}-{new_id()[:8]}"
        if child.role == "web":
            arguments, passed = [str(server), str(alive), str(told)], [server, told, alive, lock]
        else:
            arguments, passed = [child.name, str(alive)], [alive, lock]
        reads, writes = os.pipe()  # settings may hold passwords, which a command line would show to everybody
        with os.fdopen(reads, "rb") as settings:
            with os.fdopen(writes, "wb") as end:
                end.write(self._settings.model_dump_json().encode())
            child.process = subprocess.Popen(
                [sys.executable, "-m", f"cipherlens.service.{child.role}", *arguments],
                stdin=settings, pass_fds=passed,
            )  # fmt: skip
        child.started = time.monotonic()

    def _bury(self, child: Child, jobs: Jobs) -> None:
        status = child.process.returncode if child.process is not None else None
        try:
            again = jobs.bury(child.role, child.name)
        except Unavailable:
            again = 0  # the lease will run out
        say("died", name=child.name, status=status, queued_again=again)
        first = child.role == "web" and not self._answered
        soon = first or time.monotonic() - child.started < SOON_SECONDS
        child.failures = child.failures + 1 if soon else 0
        if child.failures >= (MOST_FIRST_FAILURES if first else MOST_FAILURES):
            raise ServerError(f"the service's {child.role} process ends as soon as it is started; the log says why")
        child.process = None
        child.again = time.monotonic() + (min(LONGEST_PAUSE, 0.05 * 2**child.failures) if soon else 0.0)

    def _end(self) -> None:
        """Ask all children to end, and kill those that do not."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def locked(data: Path) -> Iterator[int]:
    """The folder, made if need be, for this service alone; gives the descriptor that holds the lock.

    Raises:
        InputError: another service holds it, or it cannot be written.
    """
    try:
        make_folder(data.resolve())
        lock = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise InputError(f"{data} cannot be written ({error.strerror}); name a folder that can") from None
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"another service works on {data}; stop it first, or name another folder"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _listen(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """The socket that all requests come in by, and its URL. Raises InputError."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        server = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(f"there is no address {settings.host} to listen on ({error.strerror})") from None
    with server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((settings.host, settings.port))
            server.listen(BACKLOG)
        except OSError as error:
            raise InputError(
                f"nothing can listen on {settings.host}, port {settings.port} ({error.strerror}); choose another"
            ) from None
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield server, f"http{'s' if settings.tls_cert else ''}://{host}:{server.getsockname()[1]}"
