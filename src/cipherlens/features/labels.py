"""Labels: a CSV file beside a flat folder, one folder a class, or a list; as class numbers."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.errors import InputError
from cipherlens.features.images import ImageSource, some


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Labels:
    """numbers: (n,) int64 in 0..k-1, one an image, in the images' order. classes: the k class names."""

    numbers: NDArray[np.int64]
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Labels({len(self.numbers)} labels, {len(self.classes)} classes)"


LARGEST_CSV = 1 << 28
"""Bytes of a label file: a million images' labels take about 50 MB."""


def read_labels(source: ImageSource, labels: Any = None, *, classes: Sequence[str] | None = None) -> Labels:
    """The labels of a source's images.

    labels: a CSV file with the columns `file` (a name of the source) and `label`; a sequence or array of one label
    an image; or None, if the images lie in one folder a class. Rows and entries of skipped images are left out.
    classes: the class names of an existing task, in its order; otherwise they are the labels found, sorted (by
    value if all are whole numbers).

    Raises InputError for labels of missing files, files without labels, duplicate rows, labels outside `classes`,
    and without `classes`, for fewer than two classes.
    """
    if labels is None:
        if source.classes is None:
            raise InputError(
                "The images have no labels; give a CSV file (file,label), or put them into one folder a class."
            )
        values: Sequence[str] = source.classes
    elif isinstance(labels, (str, os.PathLike)):
        values = _match(source, read_label_file(Path(labels)), Path(labels).name)
    else:
        values = _from_sequence(source, labels)
    return number_labels(values, classes)


def number_labels(values: Sequence[str], classes: Sequence[str] | None = None) -> Labels:
    """Class names as numbers; `classes` and errors as in `read_labels`."""
    found = set(values)
    if classes is None:
        names = _sorted_classes(found)
        if len(names) < 2:
            raise InputError(
                f"All {len(values)} labels are '{names[0]}', one class only; a classifier needs at least two."
            )
    else:
        names = tuple(classes)
        if unknown := sorted(found - set(names)):
            raise InputError(
                f"The label '{unknown[0]}' is not a class of this task, which has {len(names)} classes ({some(names)}); "
                "correct it."
            )
    number = {name: i for i, name in enumerate(names)}
    return Labels(np.array([number[value] for value in values], dtype=np.int64), names)


def read_label_file(path: Path) -> dict[str, str]:
    """The label of each file that a CSV file names. Raises InputError for what is no such CSV file, and for a name twice."""
    labels: dict[str, str] = {}
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"The label file '{path}' is a folder, a pipe or a device; give a CSV file.")
        with path.open("rb") as file:
            content = file.read(LARGEST_CSV + 1)
        if len(content) > LARGEST_CSV:
            raise InputError(f"The label file '{path.name}' has more than {LARGEST_CSV:,} bytes; split the images.")
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if rows.fieldnames is None or not {"file", "label"} <= set(rows.fieldnames):
            raise InputError(f"The label file '{path.name}' must begin with the line 'file,label'; add it.")
        for row in rows:
            name, label = (row["file"] or "").strip(), (row["label"] or "").strip()
            if not name or not label:
                raise InputError(
                    f"Line {rows.line_num} of '{path.name}' lacks a file or a label; complete or remove it."
                )
            name = PurePosixPath(name.replace("\\", "/")).as_posix()
            if name in labels:
                raise InputError(
                    f"Line {rows.line_num} of '{path.name}' labels '{name}' a second time; remove one of the rows."
                )
            labels[name] = label
    except OSError as error:
        raise InputError(f"The label file '{path}' cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The label file '{path.name}' is not UTF-8 text; save it as a CSV file in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"The label file '{path.name}' is not valid CSV ({error}); save it again as CSV.") from error
    return labels


def _match(source: ImageSource, labels: dict[str, str], file: str) -> list[str]:
    known = {*source.names, *(skipped.name for skipped in source.skipped)}
    if missing := [name for name in labels if name not in known]:
        if misnamed := sorted(set(missing) & set(source.passed_over)):
            raise InputError(
                f"'{file}' labels what is there but has no image's suffix ({some(misnamed)}); rename such files to .jpg, "
                ".png and the like if they are images, or convert them, and correct their rows."
            )
        raise InputError(
            f"'{file}' labels what is not among the images ({some(missing)}); correct the names or add the files."
        )
    if unlabelled := [name for name in source.names if name not in labels]:
        raise InputError(
            f"'{file}' has no label for {len(unlabelled)} of {len(source)} images ({some(unlabelled)}); "
            "add rows or remove the images."
        )
    return [labels[name] for name in source.names]


def label_names(labels: Any) -> list[str]:
    """Class names from a sequence or array (n,) of names or whole numbers. Raises InputError for anything else."""
    values = np.asarray(labels)
    if values.ndim != 1 or (values.dtype.kind not in "iubUSO" and not _whole(values)):
        raise InputError(
            f"Labels are one class name or whole number an image, not an array {values.dtype}{values.shape}."
        )
    if values.dtype.kind == "f":
        values = values.astype(np.int64)
    require_labels(values)
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]


def require_labels(values: NDArray[Any]) -> None:
    """Raise InputError for the first object (n,) that is no class name and no whole number, such as a missing one."""
    for i, value in enumerate(values.tolist() if values.dtype.kind == "O" else ()):
        if not isinstance(value, str | bytes | int | np.integer):
            raise InputError(f"Label {i + 1} is {value!r}, which is no class name or whole number; give it one.")


def _from_sequence(source: ImageSource, labels: Any) -> list[str]:
    names = label_names(labels)
    if len(names) != len(source):
        skipped = f" ({len(source.skipped)} broken ones skipped)" if source.skipped else ""
        raise InputError(f"There are {len(names)} labels for {len(source)} images{skipped}; give one label an image.")
    return names


def _whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def _sorted_classes(found: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(sorted(found))
