"""`kill -9` of a service at random moments while an owner uploads, trains and classifies; prints what happened as JSON.

    python benchmarks/service_kills.py --kills 30

Each session uploads everything anew, trains, classifies and deletes; every byte that comes back is compared with what
an undisturbed run gives. The script ends with status 1 when anything is lost, half-done or different.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from service_killer import Killer, session
from service_world import client, make_material, serving, token


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Kill a service at random moments.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--images", type=int, default=8192, help="to train on")
    parser.add_argument("--longest", type=float, default=4.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        material = make_material(Path(folder) / "files", images=chosen.images, parts=4)
        started, rounds, failure = time.perf_counter(), 0, None
        with serving(Path(folder) / "data", checkpoint_seconds=0.2) as service:
            killer = Killer(service, random.Random(chosen.seed), chosen.kills, chosen.longest)
            with client(service.url, token(service.data), patience=30) as owner, killer:
                try:
                    while killer.at_work or rounds == 0:
                        session(owner, material, f"round-{rounds}")
                        rounds += 1
                except AssertionError as error:
                    failure = str(error) or "different bytes"
            log = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
        print(
            json.dumps(
                {
                    "kills": killer.kills,
                    "killed": dict(sorted(killer.killed.items())),
                    "sessions": rounds,
                    "jobs_queued_again": sum(line.get("queued_again", 0) for line in log),
                    "defects": sum(line["event"] in ("defect", "job", "lease") for line in log),
                    "seconds": round(time.perf_counter() - started, 1),
                    "seed": chosen.seed,
                    "identical": failure is None and killer.failure is None,
                    "failure": failure or (repr(killer.failure) if killer.failure else None),
                }
            )
        )
    return 0 if failure is None and killer.failure is None else 1


if __name__ == "__main__":
    sys.exit(main())
