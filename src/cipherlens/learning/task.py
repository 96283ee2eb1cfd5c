"""The public half of a task: all that a server needs to know to train and classify."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

from cipherlens.errors import FormatError, PlanError
from cipherlens.learning.circuit import Circuit
from cipherlens.learning.learners import LearnerSpec
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.container import Json, header_hex


@dataclass(frozen=True)
class PublicTask:
    """Parameters of the ring and of the learner. Holds no statistic of any image beyond `spec.upper`.

    Attributes:
        parameters: the ring, inside the security table.
        spec: the learner and the public numbers of its solve.
        nonce: 32 hexadecimal digits, drawn when the task is planned: tasks with the same numbers stay apart, since
            their feature maps may differ.
    """

    parameters: Parameters
    spec: LearnerSpec
    nonce: str

    @cached_property
    def circuit(self) -> Circuit:
        """Sizes, levels and keys."""
        return Circuit(self.parameters, self.spec)

    def to_dict(self) -> dict[str, object]:
        """A JSON-able description; `from_dict` is its inverse."""
        return {"parameters": self.parameters.to_dict(), "learner": asdict(self.spec), "nonce": self.nonce}

    @classmethod
    def from_dict(cls, values: object) -> PublicTask:
        """A task from untrusted JSON.

        Raises:
            FormatError: missing or ill-typed fields, or numbers that do not fit together.
            SecurityError: parameters above the security table.
        """
        if not isinstance(values, dict) or set(values) != {"parameters", "learner", "nonce"}:
            raise FormatError("this file does not describe a task; it was not written by Cipherlens")
        learner, nonce = values["learner"], values["nonce"]
        if not isinstance(nonce, str) or len(nonce) != 32 or not set(nonce) <= set("0123456789abcdef"):
            raise FormatError("the task in this file has no valid nonce")
        kinds = {"kind": str, "classes": int, "dimension": int, "ridge": float, "upper": float, "steps": int}
        if not isinstance(learner, dict) or set(learner) != set(kinds):
            raise FormatError("the task in this file does not describe its learner")
        for name, kind in kinds.items():
            if type(learner[name]) is not kind:
                raise FormatError(f"the learner's {name!r} in this file is not of type {kind.__name__}")
        if learner["classes"] > 1 << 15:
            raise FormatError("the task in this file has more classes than any ring has slots")
        try:
            task = cls(Parameters.from_dict(values["parameters"]), LearnerSpec(**learner), nonce)
            _ = task.circuit
        except PlanError as error:
            raise FormatError(f"the task in this file cannot work: {error}") from None
        return task

    @cached_property
    def id(self) -> str:
        """The first 128 bits of SHA-256 over the canonical JSON description, in hexadecimal."""
        return _digest(self.to_dict())

    @cached_property
    def origin(self) -> str:
        """What all recipes for the same images share: as `id`, of everything but learner, steps and ridge."""
        spec = self.spec
        return _digest(
            {
                "parameters": self.parameters.to_dict(),
                "learner": {"classes": spec.classes, "dimension": spec.dimension, "upper": spec.upper},
                "nonce": self.nonce,
            }
        )


def _digest(values: dict[str, object]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def task_header(task: PublicTask, key_id: str) -> dict[str, object]:
    """The header fields that every file of a task begins with."""
    return {"task": task.to_dict(), "task_id": task.id, "parameters_id": task.parameters.id, "key_id": key_id}


def read_task(header: Mapping[str, Json]) -> tuple[PublicTask, str]:
    """The task and the key id of a file's header. Raises FormatError, or SecurityError, as `PublicTask.from_dict`."""
    task = PublicTask.from_dict(header.get("task"))
    if header_hex(header, "task_id") != task.id or header_hex(header, "parameters_id") != task.parameters.id:
        raise FormatError("the ids in this file's header are not those of its task; it is damaged")
    return task, header_hex(header, "key_id")
