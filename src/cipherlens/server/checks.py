"""What the server checks before it computes."""

from __future__ import annotations

from collections.abc import Sequence

from cipherlens.errors import KeyMismatch
from cipherlens.learning.recipes import missing_keys
from cipherlens.learning.task import PublicTask
from cipherlens.scheme.keys import EvaluationKeys, KeyRequest
from cipherlens.scheme.parameters import require_secure


def check_keys(
    task: PublicTask, key_id: str, evaluation: EvaluationKeys, requests: Sequence[KeyRequest] | None = None
) -> None:
    """The keys are of this key pair and ring, and hold every key that is requested: by default all that the circuit uses.

    Raises:
        KeyMismatch: they do not.
        SecurityError: the ring is not inside the security table.
    """
    require_secure(task.parameters)
    if evaluation.key_id != key_id:
        raise KeyMismatch("the evaluation keys belong to another key pair than the images; use the owner's own")
    if evaluation.parameters.id != task.parameters.id:
        raise KeyMismatch("the evaluation keys were made for other parameters; create keys from this task")
    special = len(task.parameters.special_primes)
    levels = {n: k.data.shape[2] - special - 1 for n, k in evaluation.keys.items()}
    missing = missing_keys(task.circuit.key_requests() if requests is None else requests, levels)
    if missing:
        raise KeyMismatch(f"{missing} of the keys that this task uses are missing; create keys from this task")
