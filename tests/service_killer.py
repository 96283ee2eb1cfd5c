"""Who kills a service, and an owner who does not mind: shared by the tests and the benchmark."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service_world import Material, Owner, Service

ROLES = ("web", "worker", "supervisor", "all")
PHASES = ("upload", "train", "classify")


class Phase:
    """What an owner's session is doing, and how long each of its phases took last."""

    def __init__(self) -> None:
        self.now = ""
        self.lasted = dict.fromkeys(PHASES, 0.1)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """The phase from now on, to the end of the block."""
        began, self.now = time.monotonic(), phase
        try:
            yield
        finally:
            self.now, self.lasted[phase] = "", time.monotonic() - began

    def await_moment(self, phase: str, share: float, enough: threading.Event) -> None:
        """Wait for a phase to begin and for a share of the time that it took last, or until it is enough."""
        while self.now == phase and not enough.wait(0.002):
            pass  # one that is under way: its beginning is over
        while self.now != phase and not enough.wait(0.002):
            pass
        enough.wait(share * self.lasted[phase])


class Killer:
    """Kills parts of a service at random moments of uploads, trainings and classifications in turn.

    Starts again what does not start itself. Works in a thread of its own within its `with` block; an exception is left
    in `failure`.

    Attributes:
        phase: for the session to say what it does.
        killed: how often each role was. met: how often a kill met each phase.
    """

    def __init__(self, service: Service, chance: random.Random, kills: int, longest: float) -> None:
        """longest: seconds of peace between two kills, at most."""
        self._service, self._chance, self._wanted, self._longest = service, chance, kills, longest
        self.phase = Phase()
        self.killed: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    @property
    def at_work(self) -> bool:
        """Whether there are kills to come."""
        return self._thread.is_alive()

    @property
    def kills(self) -> int:
        """How many so far."""
        return self.killed.total()

    def _run(self) -> None:
        try:
            while self.kills < self._wanted and not self._enough.wait(self._chance.uniform(0.0, self._longest)):
                role = ROLES[self.kills % len(ROLES)] if self.kills < len(ROLES) else self._chance.choice(ROLES)
                self.phase.await_moment(PHASES[self.kills % len(PHASES)], self._chance.random(), self._enough)
                if self._enough.is_set():
                    return
                self.met[self.phase.now or "between"] += 1
                self._service.kill(role)
                self.killed[role] += 1
                if role in ("supervisor", "all"):
                    self._service.start()
        except BaseException as error:
            self.failure = error


def session(owner: Owner, material: Material, name: str, phase: Phase | None = None) -> None:
    """Upload, train, classify, and delete again, so that the next session begins anew; every byte is compared.

    Raises AssertionError for anything lost, half-done or different.
    """
    phase = phase or Phase()
    with phase.during("upload"):
        files = [owner.upload(part) for part in material.parts]
        keys, query = owner.upload(material.keys, "evaluation_keys"), owner.upload(material.query)
    made = owner.done("POST", "/v1/datasets", json={"file_ids": files}, headers={"Idempotency-Key": name})
    with phase.during("train"):
        training = owner.submit(f"{name}-train", kind="train", dataset_id=made["dataset_id"], keys_file_id=keys)
        trained = owner.wait(training)
    assert trained["state"] == "done", trained
    model = str(trained["result_file_id"])
    assert owner.download(model) == material.model
    with phase.during("classify"):
        job = owner.submit(
            f"{name}-classify", kind="classify", model_file_id=model, query_file_id=query, keys_file_id=keys
        )
        answered = owner.wait(job)
    assert answered["state"] == "done", answered
    reply = str(answered["result_file_id"])
    assert owner.download(reply) == material.reply
    assert owner.download(files[0]) == material.parts[0].read_bytes()
    target = {"kind": "data_set", "id": made["dataset_id"]}
    shown = owner.done("POST", "/v1/deletions/plan", json=target)
    order = target | {"plan_sha256": shown["plan_sha256"]}
    receipt = owner.done("POST", "/v1/deletions", json=order)["receipt"]  # the same when it is asked again after a kill
    assert {thing["id"] for thing in receipt["objects"]} == {*files, made["dataset_id"], training, job, model, reply}
    for found in (keys, query):
        gone = owner.ask("DELETE", f"/v1/files/{found}")
        assert gone.status_code in (204, 404), gone.text  # 404: done, and killed before it could say so
