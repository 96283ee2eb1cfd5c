"""Deleting on the server: what would go, the order to do it, and the signed receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cipherlens.client.http import Http
from cipherlens.client.transfer import read_id
from cipherlens.errors import FormatError, InputError, ServerError
from cipherlens.wire.receipt import Deleted, SignedReceipt

TARGETS = ("file", "data_set", "key")


@dataclass(frozen=True)
class DeletionPlan:
    """What would go, as the server listed it.

    Attributes:
        kind, id: what was asked for: a file, a data set with its files, or everything under a key.
        objects: it and everything derived.
        unfinished: how many jobs would be cancelled.
        shrunk: how many data sets would stay with fewer files.
        withdrawn: how many publications would be withdrawn.
        sha256: of exactly this list; the server deletes no other.
    """

    kind: str
    id: str
    objects: tuple[Deleted, ...]
    unfinished: int
    shrunk: int
    withdrawn: int
    sha256: str

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(thing.size or 0 for thing in self.objects)


@dataclass(frozen=True)
class Deletion:
    """A deletion of earlier, in short. Times in seconds since 1970.

    Attributes:
        id: of its receipt.
        reason: request, retention or rotation.
        objects: how many files, data sets and jobs went. size: bytes of the files.
        erased: when the last byte was gone; None until then.
    """

    id: str
    reason: str
    objects: int
    size: int
    requested: float
    erased: float | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Deletion:
        """One of a server's list. Raises ServerError when it is none."""
        numbers = [values.get(name) for name in ("objects", "size", "requested")]
        erased = values.get("erased")
        if not all(_is_number(value) for value in numbers) or not (erased is None or _is_number(erased)):
            raise ServerError("the server lists a deletion without sizes and times; check its version")
        objects, size, requested = numbers
        return cls(
            read_id(values, "receipt_id"),
            str(values.get("reason"))[:20],
            int(objects or 0),
            int(size or 0),
            requested or 0.0,
            erased,
        )


def plan_deletion(http: Http, kind: str, id: str) -> DeletionPlan:
    """Ask what would go. Raises ServerError."""
    answer = http.json("POST", "/v1/deletions/plan", {"kind": kind, "id": id}, idempotent=True) or {}
    try:
        objects = tuple(_deleted(thing) for thing in answer["objects"])
        return DeletionPlan(
            kind, id, objects, len(answer["unfinished"]), len(answer["shrunk"]), len(answer["withdrawn"]),
            str(answer["plan_sha256"]),
        )  # fmt: skip
    except (KeyError, TypeError, InputError):
        raise ServerError("the server does not say what it would delete; check its version") from None


def order_deletion(http: Http, plan: DeletionPlan) -> SignedReceipt:
    """Delete what a plan shows. Asking again gives the same receipt. Raises ServerError."""
    body = {"kind": plan.kind, "id": plan.id, "plan_sha256": plan.sha256}
    return read_receipt(http.json("POST", "/v1/deletions", body, idempotent=True) or {})


def read_receipt(answer: Mapping[str, Any]) -> SignedReceipt:
    """A receipt out of an answer. Raises ServerError when it is none."""
    try:
        return SignedReceipt.from_dict(answer)
    except FormatError as error:
        raise ServerError(f"the server's answer holds no receipt: {error}") from None


def _deleted(values: Mapping[str, Any]) -> Deleted:
    kind, id, sha256, size = values["kind"], values["id"], values["sha256"], values["size"]
    if not (isinstance(kind, str) and isinstance(id, str) and (size is None or type(size) is int)):
        raise InputError("no object of a plan")
    return Deleted(kind[:20], id[:32], None if sha256 is None else str(sha256)[:64], size)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e15  # type: ignore[operator]
