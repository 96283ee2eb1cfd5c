"""What follows from what: the files, data sets and jobs that go when something goes.

A job is derived from each file among its inputs, and its result from the job. A switching key goes with the last
unfinished job that needs it. A data set loses a file that goes, and goes itself when it loses the last one; a publication is
withdrawn when it loses any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from cipherlens.service.database import Dataset, DatasetFile, File, Job, Publication, PublicationFile, Token
from cipherlens.service.datasets import dataset_files, find_dataset
from cipherlens.service.errors import not_found
from cipherlens.service.files import find_file
from cipherlens.service.schemas import DeletionOrder, DeletionPlan, Doomed, Target
from cipherlens.service.states import UNFINISHED
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import canonical_json


@dataclass(frozen=True)
class Derived:
    """What goes together.

    Attributes:
        unfinished: those of `jobs` that have not ended.
        shrunk: data sets that stay and lose files.
        withdrawn: publications that hold a file of these.
    """

    files: tuple[File, ...]
    datasets: frozenset[str]
    jobs: frozenset[str]
    unfinished: frozenset[str] = frozenset()
    shrunk: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()

    @property
    def objects(self) -> list[Doomed]:
        """As a receipt lists them."""
        files = [
            Doomed.model_validate(
                {
                    "kind": file.kind if file.state == "ready" else "upload",
                    "id": file.id,
                    "sha256": file.sha256,
                    "size": file.size,
                }
            )
            for file in sorted(self.files, key=lambda file: file.id)
        ]
        sets = [Doomed(kind="data_set", id=i, sha256=None, size=None) for i in sorted(self.datasets)]
        return [*files, *sets, *(Doomed(kind="job", id=i, sha256=None, size=None) for i in sorted(self.jobs))]

    def plan(self) -> DeletionPlan:
        """What is shown before it is done."""
        objects = self.objects
        digest = hashlib.sha256(canonical_json([thing.model_dump() for thing in objects]).encode()).hexdigest()
        return DeletionPlan(
            objects=objects, unfinished=sorted(self.unfinished), shrunk=sorted(self.shrunk),
            withdrawn=sorted(self.withdrawn), size=sum(thing.size or 0 for thing in objects), plan_sha256=digest,
        )  # fmt: skip


def derive_target(session: Session, caller: Caller, target: Target | DeletionOrder) -> Derived:
    """What goes with a file, a data set or a key. Raises NotFound when the tenant has no such thing."""
    tenant = caller.tenant_id
    if target.kind == "file":
        return derive(session, tenant, {find_file(session, caller, target.id).id}, set())
    if target.kind == "data_set":
        dataset = find_dataset(session, caller, target.id)
        # What contributors have begun to send for it belongs to nothing else.
        spaces = select(Token.id).where(Token.tenant_id == tenant, Token.dataset_id == dataset.id)
        sent = session.scalars(select(File.id).where(File.tenant_id == tenant, File.space.in_(spaces)))
        return derive(session, tenant, {*dataset_files(session, dataset.id), *sent}, {dataset.id})
    files = set(session.scalars(select(File.id).where(File.tenant_id == tenant, File.key_id == target.id)))
    sets = set(session.scalars(select(Dataset.id).where(Dataset.tenant_id == tenant, Dataset.key_id == target.id)))
    if not files | sets:
        raise not_found("key")
    return derive(session, tenant, files, sets)


def derive(
    session: Session, tenant_id: str, files: Iterable[str], datasets: Iterable[str], jobs: Iterable[str] = ()
) -> Derived:
    """Everything that goes with these files, data sets and jobs of one tenant."""
    gone, reached, left = set(files), set(datasets), set(jobs)
    rows = session.execute(select(Job.id, Job.inputs, Job.result_file_id).where(Job.tenant_id == tenant_id)).all()
    waiting = {job: ({i for ids in json.loads(inputs).values() for i in ids}, result) for job, inputs, result in rows}
    while more := {job for job, (inputs, _) in waiting.items() if job in left or inputs & gone}:
        left |= more
        gone |= {result for job in more if (result := waiting.pop(job)[1]) is not None}
    members = session.execute(
        select(DatasetFile.dataset_id, DatasetFile.file_id)
        .join(Dataset, Dataset.id == DatasetFile.dataset_id)
        .where(Dataset.tenant_id == tenant_id)
    ).all()
    kept = {dataset for dataset, file in members if file not in gone}
    touched = {dataset for dataset, file in members if file in gone} - reached
    unfinished = session.execute(
        select(Job.id, Job.kind, Job.inputs).where(Job.tenant_id == tenant_id, Job.state.in_(UNFINISHED))
    ).all()
    switches = [(job, json.loads(inputs)["switching_key"][0]) for job, kind, inputs in unfinished if kind == "switch"]
    gone |= {key for job, key in switches if job in left} - {key for job, key in switches if job not in left}
    found = [file for file in session.scalars(select(File).where(File.tenant_id == tenant_id)) if file.id in gone]
    published = session.execute(
        select(PublicationFile.publication_id, PublicationFile.file_id)
        .join(Publication, Publication.id == PublicationFile.publication_id)
        .where(Publication.tenant_id == tenant_id)
    ).all()
    return Derived(
        tuple(found),
        frozenset(reached | (touched - kept)),
        frozenset(left),
        frozenset(left & {job for job, _, _ in unfinished}),
        frozenset(touched & kept),
        frozenset(publication for publication, file in published if file in gone),
    )
