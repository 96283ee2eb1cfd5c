"""Images, tables, labels and the truth, from the paths that a command was given. The owner's side only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipherlens.cli.output import Output, plural
from cipherlens.errors import InputError
from cipherlens.features.images import ImageSource, some
from cipherlens.features.labels import number_labels, read_label_file, read_labels
from cipherlens.owner.encryption import as_unicode

Floats = NDArray[np.float64]


def open_images(
    path: Path, labels: Path | None, output: Output, *, table: bool, skip_broken: bool
) -> ImageSource | Floats:
    """The images of a folder, or with `table` the rows of a file.

    Broken images are named when they are skipped, and so are the first files that are passed over for their names; the
    label file itself may lie among the images.

    Raises InputError for paths that hold nothing usable.
    """
    if table:
        return _read_table(path)
    with output.progress("looking for broken images" if skip_broken else "listing images"):
        source = ImageSource.of(path, skip_broken=skip_broken)
    for skipped in source.skipped:
        output.note(f"skipped {skipped.name}: {skipped.reason}")
    own = None if labels is None else os.path.realpath(labels)
    source = replace(
        source, passed_over=tuple(name for name in source.passed_over if os.path.realpath(path / name) != own)
    )
    if over := source.passed_over:
        output.note(
            f"passed over {plural(len(over), 'file')} without an image's suffix: {some(over)}; rename those that are "
            "images to .jpg, .png or the like, or convert them"
        )
    return source


def open_labels(images: ImageSource | Floats, labels: Path | None) -> Any:
    """What `plan` and `prepare` take as labels: for images the path itself, for a table one name a row."""
    if isinstance(images, ImageSource) or labels is None:
        return labels
    rows = _names_only(str(number) for number in range(len(images)))
    read = read_labels(rows, labels)
    return [read.classes[number] for number in read.numbers]


def left_out(images: ImageSource | Floats) -> dict[str, object]:
    """For the JSON object: the names of broken images that were skipped, and of files that were passed over."""
    if not isinstance(images, ImageSource):
        return {"skipped": [], "passed_over": []}
    return {"skipped": [skipped.name for skipped in images.skipped], "passed_over": list(images.passed_over)}


def read_truth(path: Path, files: Sequence[str], classes: Sequence[str], output: Output) -> NDArray[np.int64]:
    """The true class numbers of predicted files, int64 (n,), from a CSV file or from a folder with one folder a class.

    A file is looked up under its name in the folder (`cat/01.png`), or under its last part where that is unique. Further
    files may be among the truth, as where a reply answers for a part of the images, and are counted in a note.

    Raises InputError for files without a truth and for labels that are no classes of the task.
    """
    told = _classes_of_folder(path) if path.is_dir() else read_label_file(path)
    counts = Counter(Path(name).name for name in told)
    last = {Path(name).name: name for name in told if counts[Path(name).name] == 1}
    found = {file: name for file in files if (name := file if file in told else last.get(Path(file).name)) is not None}
    if missing := [file for file in files if file not in found]:
        raise InputError(
            f"{path} tells no truth for {len(missing)} of {plural(len(files), 'file')} ({some(missing)}); give the folder "
            "that the images were encrypted from, or a CSV with a row for each"
        )
    if further := sorted(told.keys() - found.values()):
        output.note(f"{path} tells the truth of {plural(len(further), 'file')} besides this reply's: {some(further)}")
    return number_labels([told[found[file]] for file in files], classes).numbers


def _classes_of_folder(path: Path) -> dict[str, str]:
    source = ImageSource.of(path)
    if source.classes is None:
        raise InputError(f"the folder {path} has no folder a class, so it tells no truth; give such a folder or a CSV")
    names = (as_unicode(name) for name in source.names)  # as they were when they were encrypted
    return dict(zip(names, source.classes, strict=True))


def _names_only(names: Any) -> ImageSource:
    """A source that has names and no pixels, to match labels with."""

    def read(_: int) -> NDArray[np.uint8]:
        raise InputError("rows of a table are no images")

    return ImageSource(tuple(names), None, (), read)


def _read_table(path: Path) -> Floats:
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is a folder, a pipe or a device")
        # Mapped, so that a header which promises more than there is allocates nothing.
        values = np.load(path, mmap_mode="r", allow_pickle=False) if path.suffix == ".npy" else _read_csv(path)
    except OSError as error:
        raise InputError(f"the table {path} cannot be read ({error.strerror}); check the path") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no table of numbers ({error}); give a .npy file or a CSV of numbers") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiub":
        raise InputError(f"{path} is no table of numbers; give a .npy file of shape (rows, columns) or such a CSV")
    with np.errstate(over="ignore"):  # wider floats become infinite, and are refused for it with all features
        return values.astype(np.float64)


def _read_csv(path: Path) -> Floats:
    lines = [line for line in path.read_bytes().decode("utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    rows = [[float(cell) for cell in line.split(",")] for line in lines]
    if uneven := next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None):
        raise ValueError(f"row {uneven + 1} has {len(rows[uneven])} numbers and the first has {len(rows[0])}")
    return np.array(rows)
