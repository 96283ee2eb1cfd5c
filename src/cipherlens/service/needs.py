"""What a file is needed for."""

from __future__ import annotations

from typing import Literal, TypeAlias

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from cipherlens.service.database import DatasetFile, Job, PublicationFile
from cipherlens.service.states import UNFINISHED

Need: TypeAlias = Literal["data set", "publication", "job"]


def need_of(session: Session, file_id: str) -> Need | None:
    """What holds a file, or which unfinished work needs it; None when it can go.

    Jobs count whosever they are: trainers train on what was published, and owners evaluate what was submitted.
    """
    queries: dict[Need, Select[str]] = {
        "data set": select(DatasetFile.dataset_id).where(DatasetFile.file_id == file_id),
        "publication": select(PublicationFile.publication_id).where(PublicationFile.file_id == file_id),
        "job": select(Job.id).where(Job.state.in_(UNFINISHED), Job.inputs.contains(file_id)),
    }
    return next((need for need, query in queries.items() if session.scalar(query.limit(1)) is not None), None)
