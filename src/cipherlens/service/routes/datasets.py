"""Data sets."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from cipherlens.service.routes.common import (
    REFUSALS,
    From,
    IdempotencyKey,
    Owner,
    Sender,
    about,
    checked,
    idempotency_key,
    services,
)
from cipherlens.service.schemas import Addition, DatasetFiles, DatasetInfo, DatasetList, DatasetView, NewDataset

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], responses=REFUSALS)


@router.post("")
def create(request: Request, caller: Owner, wanted: NewDataset, key: IdempotencyKey = None) -> DatasetInfo:
    """A new data set of labelled images; with an `Idempotency-Key` the same body makes no second one."""
    made = services(request).datasets.create(caller, wanted.file_ids, None if key is None else idempotency_key(key))
    about(request, made.dataset_id)
    return made


@router.get("")
def datasets(request: Request, caller: Owner, place: From) -> DatasetList:
    """The data sets, newest first, a portion at a time."""
    return services(request).datasets.list(caller, place.before)


@router.post("/{dataset_id}/append")
def append(request: Request, caller: Sender, dataset_id: str, addition: Addition) -> DatasetInfo:
    """Add a file; one that is there already stays where it is."""
    return services(request).datasets.append(caller, checked(dataset_id, "data set"), addition.file_id)


@router.get("/{dataset_id}")
def info(request: Request, caller: Owner, dataset_id: str) -> DatasetInfo:
    """What a data set holds."""
    return services(request).datasets.info(caller, checked(dataset_id, "data set"))


@router.get("/{dataset_id}/files")
def files(request: Request, caller: Owner, dataset_id: str) -> DatasetFiles:
    """The files of a data set, in the order in which they are trained on."""
    return DatasetFiles(files=list(services(request).datasets.files(caller, checked(dataset_id, "data set"))))


@router.get("/{dataset_id}/view")
def view(request: Request, caller: Owner, dataset_id: str) -> DatasetView:
    """What the service can see of a data set's images: their number, class numbers, sizes and times."""
    return services(request).datasets.view(caller, checked(dataset_id, "data set"))


@router.delete("/{dataset_id}", status_code=204)
def delete(request: Request, caller: Owner, dataset_id: str) -> Response:
    """Forget the data set; its files and what was made of them stay. `POST /v1/deletions` deletes these too."""
    services(request).datasets.delete(caller, checked(dataset_id, "data set"))
    return Response(status_code=204)
