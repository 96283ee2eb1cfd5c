"""`kill -9` of a service at random moments of an owner's uploads, trainings and classifications in turn.

Each session uploads everything anew, trains, classifies and deletes; every byte that comes back is compared with what
an undisturbed run gives, and every answer must be whole.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from service_report import Kills

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from service_killer import Killer, session
from service_world import client, make_material, serving, token

LONGEST = 2.0
"""Seconds of peace between two kills, at most."""

PATIENCE = 60.0
"""Seconds for which the owner tries again while the service is away."""


def measure_kills(kills: int, images: int, seed: int, folder: Path) -> Kills:
    """So many kills of web process, worker, supervisor, or all at once, over as many sessions as it takes.

    Args:
        images: to train on in each session.
        seed: of the moments and of who is killed.
        folder: for files and for the service, which exists.
    """
    material = make_material(folder / "files", images=images, parts=4)
    started, rounds, failure = time.perf_counter(), 0, None
    with serving(folder / "killed", checkpoint_seconds=0.2) as service:
        killer = Killer(service, random.Random(seed), kills, LONGEST)
        with client(service.url, token(service.data), patience=PATIENCE) as owner, killer:
            try:
                while killer.at_work or rounds == 0:
                    session(owner, material, f"round-{rounds}", killer.phase)
                    rounds += 1
            except AssertionError as error:
                failure = str(error) or "different bytes"
        log = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    if failure is None and killer.failure is not None:
        failure = repr(killer.failure)
    return Kills(
        killer.kills, dict(sorted(killer.killed.items())), dict(sorted(killer.met.items())), rounds, sum(line.get("queued_again", 0) for line in log),
        sum(line["event"] in ("defect", "job", "lease", "audit") for line in log), time.perf_counter() - started, seed,
        failure,
    )  # fmt: skip
