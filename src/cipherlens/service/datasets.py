"""Data sets: labelled, encrypted images of one task and key, from the owner and from contributors."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cipherlens.errors import InputError, KeyMismatch
from cipherlens.learning.encrypted_images import ImagesHeader, check_images
from cipherlens.service.database import Database, Dataset, DatasetFile, File, new_id
from cipherlens.service.errors import Conflict, not_found
from cipherlens.service.files import file_info, find_file
from cipherlens.service.paging import portion
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import MOST_FILES, DatasetInfo, DatasetList, DatasetView, FileInfo
from cipherlens.service.tokens import Caller
from cipherlens.wire.container import Kind, Reader, canonical_json


class Datasets:
    """Data sets of all tenants."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store

    def create(self, caller: Caller, file_ids: Sequence[str], key: str | None = None) -> DatasetInfo:
        """A new data set of these files; under the same idempotency key the one that was made first.

        Raises:
            NotFound: a file that is not there, not ready, or not images.
            InputError, KeyMismatch: images without labels, or of several tasks or keys.
            Conflict: a file twice, or the key stands for other files.
        """
        if len(set(file_ids)) != len(file_ids):
            raise Conflict("a file is named twice, so its images would count twice; name each once")
        asked = canonical_json(list(file_ids))
        with self._database.writing() as session:
            made = select(Dataset).where(Dataset.tenant_id == caller.tenant_id, Dataset.idempotency_key == key)
            if key is not None and (dataset := session.scalar(made)) is not None:
                if dataset.asked != asked:
                    raise Conflict("this idempotency key was used for other files; choose a new one")
                return _info(session, dataset)
            files = [_labelled(session, caller, file_id) for file_id in file_ids]
            dataset = Dataset(
                id=new_id(), tenant_id=caller.tenant_id, idempotency_key=key, asked=asked, task_id=files[0].task_id or "", key_id=files[0].key_id,
                created=time.time(),
            )  # fmt: skip
            session.add(dataset)
            session.flush()
            for file in files:
                _append(session, dataset, file)
            return _info(session, dataset)

    def append(self, caller: Caller, dataset_id: str, file_id: str) -> DatasetInfo:
        """Add a file; one that is in the data set already stays where it is. Raises as `create`.

        A contributor is told of this file alone: what others gave, and how much, is not theirs to see.
        """
        with self._database.writing() as session:
            dataset, file = find_dataset(session, caller, dataset_id), _labelled(session, caller, file_id)
            _append(session, dataset, file)
            info = _info(session, dataset)
            if caller.dataset_id is not None:
                info = info.model_copy(update={"file_ids": [file_id], "images": file.images})
            return info

    def info(self, caller: Caller, dataset_id: str) -> DatasetInfo:
        """What a data set holds. Raises NotFound."""
        with self._database.reading() as session:
            return _info(session, find_dataset(session, caller, dataset_id))

    def files(self, caller: Caller, dataset_id: str) -> Sequence[FileInfo]:
        """The files of a data set, all of one moment, in the order in which they were added. Raises NotFound."""
        member = DatasetFile.file_id == File.id
        with self._database.reading() as session:
            mine = DatasetFile.dataset_id == find_dataset(session, caller, dataset_id).id
            query = select(File).join(DatasetFile, member).where(mine).order_by(DatasetFile.position)
            return [file_info(file) for file in session.scalars(query)]

    def delete(self, caller: Caller, dataset_id: str) -> None:
        """Forget the data set; its files stay until they are deleted themselves. Raises NotFound."""
        with self._database.writing() as session:
            session.delete(find_dataset(session, caller, dataset_id))

    def list(self, caller: Caller, before: str | None = None) -> DatasetList:
        """The tenant's data sets, newest first, a portion of them."""
        query = select(Dataset).where(Dataset.tenant_id == caller.tenant_id)
        with self._database.reading() as session:
            datasets, more = portion(session, query, Dataset.created, Dataset.id, before)
            return DatasetList(datasets=[_info(session, dataset) for dataset in datasets], next=more)

    def view(self, caller: Caller, dataset_id: str) -> DatasetView:
        """What the service can see of a data set's images. Raises NotFound."""
        with self._database.reading() as session:
            ids = dataset_files(session, find_dataset(session, caller, dataset_id).id)
            files = {file.id: file for file in session.scalars(select(File).where(File.id.in_(ids)))}
        try:
            seen = [self._look(files[i]) for i in ids]
        except FileNotFoundError:  # deleted meanwhile
            raise not_found("data set") from None
        task, classes = seen[0][0].task, np.sum([counts for _, counts, _ in seen], axis=0)
        return DatasetView(
            dataset_id=dataset_id, images=sum(about.images for about, _, _ in seen), classes=classes.tolist(),
            size=sum(file.size for file in files.values()), names=sum(names for _, _, names in seen),
            files=len(files), first=min(file.created for file in files.values()),
            last=max(file.created for file in files.values()), learner=task.spec.kind, columns=task.spec.dimension,
            ridge=task.spec.ridge, steps=task.spec.steps, largest_eigenvalue=task.spec.upper,
            ring_dimension=task.parameters.ring_dimension,
        )  # fmt: skip

    def _look(self, file: File) -> tuple[ImagesHeader, NDArray[np.int64], int]:
        """A file's header, its images of each class and the bytes of its names; it is closed again, and of what it holds
        the labels alone were read, since a data set may have a thousand files. Raises FileNotFoundError.
        """
        path = self._store.path(file.tenant_id, file.id)
        with (
            self._store.hold(file.tenant_id, file.id, file.sha256),
            Reader.open(path, Kind.IMAGES, verify=False) as reader,
        ):
            about, labels = check_images(reader), reader.read("labels").astype(np.int64)
            counts = np.bincount(labels[labels >= 0], minlength=about.task.spec.classes)
            return about, counts, reader.shapes["names"][0]


def find_dataset(session: Session, caller: Caller, dataset_id: str) -> Dataset:
    """A data set that the caller may touch. Raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    theirs = dataset is not None and dataset.tenant_id == caller.tenant_id
    if dataset is None or not theirs or caller.dataset_id not in (None, dataset_id):
        raise not_found("data set")
    return dataset


def dataset_files(session: Session, dataset_id: str) -> list[str]:
    """The ids of its files, in the order in which they were added."""
    query = select(DatasetFile.file_id).where(DatasetFile.dataset_id == dataset_id).order_by(DatasetFile.position)
    return list(session.scalars(query))


def _labelled(session: Session, caller: Caller, file_id: str) -> File:
    file = find_file(session, caller, file_id)
    if file.state != "ready" or file.kind != "images":
        raise not_found("file of images")
    if not file.labelled:
        raise InputError("these images carry no labels; encrypt them with labels to train on them")
    return file


def _append(session: Session, dataset: Dataset, file: File) -> None:
    if file.task_id != dataset.task_id:
        raise KeyMismatch("a file belongs to another task than the data set; use files made from one task")
    if file.key_id != dataset.key_id:
        raise KeyMismatch("a file is under another key than the data set; use files made with one key pair")
    if session.get(DatasetFile, (dataset.id, file.id)) is not None:
        return
    last = session.scalar(select(func.max(DatasetFile.position)).where(DatasetFile.dataset_id == dataset.id))
    position = 0 if last is None else last + 1
    if position >= MOST_FILES:
        raise Conflict(f"a data set holds at most {MOST_FILES} files; put more images into each")
    session.add(DatasetFile(dataset_id=dataset.id, file_id=file.id, position=position))
    session.flush()


def _info(session: Session, dataset: Dataset) -> DatasetInfo:
    file_ids = dataset_files(session, dataset.id)
    images = session.scalar(
        select(func.sum(File.images))
        .join(DatasetFile, DatasetFile.file_id == File.id)
        .where(DatasetFile.dataset_id == dataset.id)
    )
    return DatasetInfo(
        dataset_id=dataset.id, task_id=dataset.task_id, key_id=dataset.key_id, images=int(images or 0), file_ids=file_ids,
        created=dataset.created,
    )  # fmt: skip
