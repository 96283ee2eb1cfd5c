"""Who kills a service, and an owner who does not mind: shared by the tests and the benchmark."""

from __future__ import annotations

import random
import threading
from collections import Counter

from service_world import Material, Owner, Service

ROLES = ("web", "worker", "supervisor", "all")


class Killer:
    """Kills parts of a service at random moments, and starts again what does not start itself.

    Works in a thread of its own within its `with` block; an exception is left in `failure`.
    """

    def __init__(self, service: Service, chance: random.Random, kills: int, longest: float) -> None:
        """longest: seconds between two kills."""
        self._service, self._chance, self._wanted, self._longest = service, chance, kills, longest
        self.killed: Counter[str] = Counter()
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
            while self.kills < self._wanted and not self._enough.wait(self._chance.uniform(0.05, self._longest)):
                role = ROLES[self.kills % len(ROLES)] if self.kills < len(ROLES) else self._chance.choice(ROLES)
                self._service.kill(role)
                self.killed[role] += 1
                if role in ("supervisor", "all"):
                    self._service.start()
        except BaseException as error:
            self.failure = error


def session(owner: Owner, material: Material, name: str) -> None:
    """Upload, train, classify, and delete again, so that the next session begins anew; every byte is compared.

    Raises AssertionError for anything lost, half-done or different.
    """
    files = [owner.upload(part) for part in material.parts]
    keys, query = owner.upload(material.keys, "evaluation_keys"), owner.upload(material.query)
    made = owner.done("POST", "/v1/datasets", json={"file_ids": files}, headers={"Idempotency-Key": name})
    training = owner.submit(f"{name}-train", kind="train", dataset_id=made["dataset_id"], keys_file_id=keys)
    trained = owner.wait(training)
    assert trained["state"] == "done", trained
    model = str(trained["result_file_id"])
    assert owner.download(model) == material.model
    job = owner.submit(f"{name}-classify", kind="classify", model_file_id=model, query_file_id=query, keys_file_id=keys)
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
