"""How a job ends, whoever ends it: its worker, its owner, or a deletion of what it needs."""

from __future__ import annotations

import json
import time

from sqlalchemy.orm import Session

from cipherlens.service import tally
from cipherlens.service.database import Job
from cipherlens.service.pieces import Store
from cipherlens.service.switching_keys import forget_key


def end_job(session: Session, store: Store, job: Job, state: str) -> None:
    """The job is over: nobody works on it any more, and whatever a worker still says of it counts for nothing.

    What it leaves behind goes before the transaction ends: its switching key, and its sums. A worker that has the job in
    hand removes what is its own: the workshop it writes to, and all of it once the result counts.
    """
    held = job.state == "running"
    job.state, job.finished, job.worker, job.lease = state, time.time(), None, None
    tally.add(session, tally.ENDED, job.kind, state)
    if job.started is not None:
        tally.add(session, tally.SECONDS, job.kind, value=max(0.0, job.finished - job.started))
    if state != "done" and not (held and job.kind == "switch"):
        store.forget_work(job.tenant_id, job.id)
        store.sync(job.tenant_id)
    if job.kind == "switch":
        [key_file] = json.loads(job.inputs)["switching_key"]
        forget_key(session, store, job.tenant_id, key_file)
