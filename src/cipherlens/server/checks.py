"""What the server checks before it computes."""

from __future__ import annotations

from cipherlens.errors import KeyMismatch
from cipherlens.learning.task import PublicTask
from cipherlens.scheme.keys import EvaluationKeys


def check_keys(task: PublicTask, key_id: str, evaluation: EvaluationKeys) -> None:
    """The keys are of this key pair and ring, and hold every key that the task's circuit uses.

    Raises:
        KeyMismatch: they do not.
    """
    if evaluation.key_id != key_id:
        raise KeyMismatch("the evaluation keys belong to another key pair than the images; use the owner's own")
    if evaluation.parameters.id != task.parameters.id:
        raise KeyMismatch("the evaluation keys were made for other parameters; create keys from this task")
    missing = 0
    for request in task.circuit.key_requests():
        key = evaluation.keys.get(request.number)
        limbs = 0 if key is None else key.data.shape[2] - len(task.parameters.special_primes)
        missing += limbs < request.level + 1
    if missing:
        raise KeyMismatch(f"{missing} of the keys that this task uses are missing; create keys from this task")
