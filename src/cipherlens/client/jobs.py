"""What the server says of a job, and the keys under which the same request is the same job."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cipherlens.client.transfer import read_id
from cipherlens.errors import ServerError
from cipherlens.wire.container import canonical_json

WAITING, RUNNING, DONE, FAILED, CANCELLED = STATES = ("queued", "running", "done", "failed", "cancelled")

_STAGE = re.compile(r"[\w ,.-]{1,60}", re.ASCII)


@dataclass(frozen=True)
class Job:
    """A job as the server described it last.

    Attributes:
        id: 32 hexadecimal digits.
        kind: train, classify, evaluate or switch.
        state: queued, running, done, failed or cancelled.
        stage: what it does, in words; the state before it does anything.
        progress: share of its work that is done, 0 to 1.
        estimate_seconds: until it ends, None when the server does not know.
        result_id: of its result, a file, once it is done; a switch has none.
        error: why it failed, one sentence.
        created: when it was queued, in seconds of the server's clock.
    """

    id: str
    kind: str
    state: str
    stage: str
    progress: float
    estimate_seconds: float | None
    result_id: str | None
    error: str | None
    created: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (DONE, FAILED, CANCELLED)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Job:
        """A job from a server's answer. Raises ServerError when it is none."""
        state, stage = values.get("state"), values.get("stage")
        if state not in STATES:
            raise ServerError("the server's answer holds no job's state; check that it is a Cipherlens server")
        return cls(
            read_id(values, "job_id"),
            str(values.get("kind") or "")[:20],
            str(state),
            stage if isinstance(stage, str) and _STAGE.fullmatch(stage) else str(state),
            min(max(read_number(values.get("progress")) or 0.0, 0.0), 1.0),
            read_number(values.get("estimate_seconds")),
            read_id(values, "result_file_id") if values.get("result_file_id") is not None else None,
            read_sentence(values.get("error")),
            read_number(values.get("created")) or 0.0,
        )


def idempotency_key(kind: str, inputs: Mapping[str, object], attempt: int) -> str:
    """The key of a request: the same for the same inputs on every machine, without anything kept.

    inputs: SHA-256 of the files. attempt: how many earlier requests of these inputs ended without a result.
    """
    text = canonical_json({"kind": kind, "inputs": dict(inputs), "attempt": attempt})
    return hashlib.sha256(text.encode()).hexdigest()


def read_number(value: object) -> float | None:
    """A number from outside, at least 0 and not too large; None for anything else."""
    number = float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]
    return number if number is not None and 0 <= number < 1e12 else None


def read_sentence(error: object) -> str | None:
    """An error as {kind, message} or as text, on one line."""
    message = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(message.split())[:400] if isinstance(message, str) and message.strip() else None
