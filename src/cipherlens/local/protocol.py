"""scikit-learn's estimator protocol, which scikit-learn itself is not needed for.

An estimator is whatever has `get_params`, `set_params` and the tags; scikit-learn is imported only by those methods
that scikit-learn calls, so one class serves with and without it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any, Self

from cipherlens.errors import InputError


class Parameters:
    """`get_params`, `set_params` and a `repr`, from the constructor's signature."""

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name. deep: for the protocol; no argument is an estimator."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments by name. Raises InputError for a name that the constructor does not have."""
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"there is no parameter {name!r}; {type(self).__name__} has {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Arguments that differ from the defaults; no data."""
        signature = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}" for name, value in self.get_params().items()
            if not _same(value, signature[name].default)
        ]  # fmt: skip
        return f"{type(self).__name__}({', '.join(changed)})"


def _same(value: object, default: object) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


def not_fitted(name: str) -> InputError:
    """What using an estimator before `fit` raises: scikit-learn's own error too, when scikit-learn is loaded."""
    message = f"this {name} is not fitted yet; call fit with training data first"
    known = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if known is None:
        return InputError(message)
    error: type[InputError] = type("NotFittedError", (InputError, known), {})
    return error(message)


def classifier_tags(*, table: bool) -> Any:
    """scikit-learn's tags of a classifier of images, or of rows of numbers."""
    utils: Any = importlib.import_module("sklearn.utils")
    return utils.Tags(
        estimator_type="classifier",
        target_tags=utils.TargetTags(required=table),
        classifier_tags=utils.ClassifierTags(),
        input_tags=utils.InputTags(two_d_array=table, three_d_array=not table, string=not table),
    )
