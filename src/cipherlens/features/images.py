"""From what a user has to arrays: folders, files, PIL images, arrays and tensors, read one at a time.

Everything arrives as uint8, (height, width) if grey and (height, width, 3) RGB otherwise, upright (EXIF orientation
applied) and opaque (alpha composited over white). Sixty thousand images never sit in memory together: a source
holds paths or references, and decodes when asked.
"""

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cipherlens.errors import InputError
from cipherlens.features.arrays import array_images, pixels_from_array, pixels_from_float

Pixels = NDArray[np.uint8]
"""(height, width) grey or (height, width, 3) RGB."""

PIXEL_LIMIT = 64_000_000
"""Larger images are refused before decoding: 64 million pixels decode to 192 MB."""

SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".tga",
        ".ico",
        ".heic",
        ".heif",
        ".hif",
    )
)
"""Files of a folder with these endings are images; others are passed over, and counted.

Names alone decide: the content would make a second image of every backup copy such as cat.jpg~.
"""

COMPANIONS = frozenset(("thumbs.db", "desktop.ini"))
"""What file managers leave in folders of images besides hidden files: no word is lost on them."""

# Pillow's decoders for pictures; its others (EPS runs Ghostscript, PDF, video, scientific containers) stay closed.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO")
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"))
_HEIC_SUFFIXES = (".heic", ".heif", ".hif")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A broken image that was left out: its name and why it could not be read."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, repr=False)
class ImageSource:
    """Named images, decoded when asked for. Make one with `ImageSource.of`.

    names: what each image is called in predictions: the path within its folder, or its number.
    classes: for a folder with one folder a class, the class of each image; otherwise None.
    skipped: broken images left out by `skip_broken`.
    passed_over: further files of a folder, by their paths within it, whose names do not end as images' do.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...] | None
    skipped: tuple[Skipped, ...]
    _read: Callable[[int], Pixels] = field(compare=False)
    passed_over: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Any, *, skip_broken: bool = False) -> "ImageSource":
        """A source of whatever holds images.

        images: a folder (flat, or one folder a class), an image file, a PIL image, a sequence of paths, PIL images
        or arrays, a uint8 array (n, h, w) or (n, h, w, c) with c = 1, 3 or 4, or an NCHW tensor of uint8 or of
        floats in [0, 1] (anything numpy can view). A source is returned as it is.
        skip_broken: read every image once now and leave out those that cannot be read, see `skipped`.

        Raises InputError for anything else, for no image at all, and here or while reading for a broken image.
        """
        if isinstance(images, cls):
            source = images
        elif isinstance(images, (str, os.PathLike)):
            source = _from_path(Path(images))
        elif isinstance(images, Image.Image):
            source = _from_items([images])
        elif isinstance(images, Sequence):
            source = _from_items(images)
        elif hasattr(images, "__array__"):
            read, count = array_images(images)
            source = cls(_numbers(count), None, (), read)
        else:
            raise InputError(
                f"Images cannot come from an object of type {type(images).__name__}; "
                "give a folder, a list of paths or PIL images, or an array (n, h, w[, c])."
            )
        if len(source) == 0:
            raise InputError("There are zero images; give at least one.")
        return source._without_broken() if skip_broken else source

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"ImageSource({len(self)} images, {len(self.skipped)} skipped)"

    def __iter__(self) -> Iterator[tuple[str, Pixels]]:
        """(name, pixels) in order, one decoded at a time; InputError names a broken image."""
        for index, name in enumerate(self.names):
            yield name, self.read(index)

    def read(self, index: int) -> Pixels:
        """Image `index`, uint8 (h, w) or (h, w, 3); InputError, naming it, if it cannot be read."""
        try:
            return self._read(index)
        except InputError as error:
            raise InputError(
                f"The image '{self.names[index]}' cannot be read: {error} Or leave such images out: --skip-broken of "
                "`plan` and `encrypt`, skip_broken=True in Python."
            ) from error

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> "ImageSource":
        """The images at `indices`, in that order, still unread."""
        chosen = [int(i) for i in indices]
        classes = None if self.classes is None else tuple(self.classes[i] for i in chosen)
        parent = self._read
        names = tuple(self.names[i] for i in chosen)
        return replace(self, names=names, classes=classes, _read=lambda i: parent(chosen[i]))

    def _without_broken(self) -> "ImageSource":
        good, skipped = [], []
        for index, name in enumerate(self.names):
            try:
                self._read(index)
            except InputError as error:
                skipped.append(Skipped(name, str(error)))
            else:
                good.append(index)
        if not good:
            raise InputError(f"None of the {len(self)} images can be read; the first: {skipped[0].reason}")
        return replace(self.subset(good), skipped=self.skipped + tuple(skipped))


def some(names: Collection[str]) -> str:
    """The first few names, for a message."""
    listed = ", ".join(f"'{name}'" for name in islice(names, 3))
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(count))


def _from_items(items: Sequence[Any]) -> ImageSource:
    """Paths, PIL images and arrays, freely mixed."""
    paths = [Path(item) if isinstance(item, (str, os.PathLike)) else None for item in items]
    names = [str(number) if path is None else path.name for number, path in enumerate(paths)]
    if len(set(names)) < len(names):  # equal file names in several folders: tell them apart by their folders
        names = [str(number) if path is None else path.as_posix() for number, path in enumerate(paths)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"The image '{twice}' is listed more than once; list each image once.")
    for item, path in zip(items, paths, strict=True):
        if path is None and not isinstance(item, Image.Image) and not hasattr(item, "__array__"):
            raise InputError(f"A {type(item).__name__} is not an image; give paths, PIL images or arrays.")

    def read(index: int) -> Pixels:
        item, path = items[index], paths[index]
        if path is not None:
            return read_file(path)
        return pixels_from_pil(item) if isinstance(item, Image.Image) else pixels_from_array(item)

    return ImageSource(tuple(names), None, (), read)


def _from_path(path: Path) -> ImageSource:
    if path.is_file():
        return ImageSource((path.name,), None, (), lambda _: read_file(path))
    if not path.is_dir():
        raise InputError(f"There is no folder or image '{path}'; check the path.")
    here = _list_folder(path)
    filled = {folder.name: _list_folder(folder) for folder in here.folders}
    others = [*here.others, *(file for listing in filled.values() for file in listing.others)]
    passed_over = tuple(file.relative_to(path).as_posix() for file in others)
    filled = {name: listing for name, listing in filled.items() if listing.images or listing.folders}
    if here.images and any(listing.images for listing in filled.values()):
        raise InputError(
            f"The folder '{path}' holds both images and folders of images; "
            "keep all images in it, or put each into one folder a class."
        )
    if here.images:
        files = here.images
        return ImageSource(tuple(file.name for file in files), None, (), lambda i: read_file(files[i]), passed_over)
    for name, listing in filled.items():
        if not listing.images or any(_list_folder(folder).images for folder in listing.folders):
            raise InputError(
                f"The class folder '{name}' holds images deeper than one folder; put them directly into '{name}'."
            )
    files = [file for listing in filled.values() for file in listing.images]
    if not files:
        only = f", only {some(passed_over)}" if others else ""
        raise InputError(
            f"The folder '{path}' holds zero images{only}; give a folder of JPEG, PNG or other common images, whose names "
            "end in .jpg, .png and the like."
        )
    return ImageSource(
        tuple(file.relative_to(path).as_posix() for file in files),
        tuple(file.parent.name for file in files),
        (),
        lambda i: read_file(files[i]),
        passed_over,
    )


class _Listing(NamedTuple):
    """What lies directly in a folder, each sorted by name: images, folders, and files that are neither by their names."""

    images: list[Path]
    folders: list[Path]
    others: list[Path]


def _list_folder(folder: Path) -> _Listing:
    """Hidden entries and COMPANIONS are left alone. Raises InputError for a folder that cannot be listed."""
    listing = _Listing([], [], [])
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"The folder '{folder}' cannot be listed ({error.strerror}); check its permissions."
        ) from error
    for entry in entries:
        if entry.is_dir():
            listing.folders.append(entry)
        elif entry.suffix.lower() in SUFFIXES:
            listing.images.append(entry)
        elif entry.name.lower() not in COMPANIONS:
            listing.others.append(entry)
    return listing


def read_file(path: Path) -> Pixels:
    """The first frame of an image file, uint8 (h, w) or (h, w, 3).

    Raises InputError for a file that is missing, broken, of an unknown format, HEIC, or above PIXEL_LIMIT.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for somebody to write to it
            raise InputError("it is a folder, a pipe or a device; give an image file.")
        with path.open("rb") as file:
            head = file.read(64)
            if head[4:8] == b"ftyp" and (_is_heic(head) or path.suffix.lower() in _HEIC_SUFFIXES):
                raise InputError("it is a HEIC file, which is not supported; convert it to JPEG or PNG.")
            if not head:
                raise InputError("the file is empty.")
            file.seek(0)
            with warnings.catch_warnings():
                # Pillow warns of damaged metadata, which is not used, and of bombs above our own limit.
                warnings.simplefilter("ignore")
                Image.init()
                with Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
                    return pixels_from_pil(image)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"it has more than {PIXEL_LIMIT:,} pixels, the limit; scale it down.") from error
    except FileNotFoundError as error:
        raise InputError("there is no such file; check the path.") from error
    except PermissionError as error:
        raise InputError("reading it is not permitted; check its permissions.") from error
    except UnidentifiedImageError as error:
        raise InputError("it is not an image in a known format, or its header is damaged.") from error
    except Exception as error:
        raise _damaged(error) from error


def _is_heic(head: bytes) -> bool:
    """By the major and the compatible brands of an ISO media file's first box; AVIF files share some of them."""
    end = min(int.from_bytes(head[:4]), len(head))
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
    return bool(brands & _HEIC_BRANDS) and b"avif" not in brands


def pixels_from_pil(image: Image.Image) -> Pixels:
    """A PIL image of any mode, upright and over white, as uint8 (h, w) or (h, w, 3).

    Raises InputError above PIXEL_LIMIT, or if its pixels cannot be decoded.
    """
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise InputError(f"it has {width * height:,} pixels, above the limit of {PIXEL_LIMIT:,}; scale it down.")
    if width * height == 0:
        raise InputError("it has no pixels.")
    try:
        return _convert(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> InputError:
    """Pillow's decoders meet damaged bytes with a dozen exception types, SyntaxError and struct.error included."""
    if isinstance(error, OSError) and error.strerror is not None:
        return InputError(f"reading it fails ({error.strerror}); check the file.")
    return InputError(f"its data is damaged or cut off ({type(error).__name__}).")


def _convert(image: Image.Image) -> Pixels:
    mode = image.mode
    if mode == "F":
        return pixels_from_float(np.asarray(image))
    if mode.startswith("I"):  # 16-bit grey, which some files store as 32-bit
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise InputError("it has more than 16 bits a pixel; convert it to 8 or 16 bits.")
        return ((wide + 128) // 257).astype(np.uint8)
    if "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        grey = mode in ("1", "L", "LA", "La")
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA"))
        return np.array(opaque.convert("L" if grey else "RGB"))
    return np.array(image.convert("L" if mode in ("1", "L") else "RGB"))
