"""Loading images and labels: every kind of input, and one clear sentence for every kind that cannot be used."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cipherlens.errors import InputError
from cipherlens.features.images import PIXEL_LIMIT, ImageSource, pixels_from_pil, read_file
from cipherlens.features.labels import read_labels

RNG_SEED = 7


def picture(height: int = 5, width: int = 8, seed: int = RNG_SEED) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array: NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if array is None else array).save(path)
    return path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    folder = tmp_path / "flat"
    for i, name in enumerate(["b.png", "a.png", "c.JPG"]):
        save(folder / name, picture(seed=i))
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture
def by_class(tmp_path: Path) -> Path:
    for i, name in enumerate(["cat/1.png", "cat/2.png", "dog/1.png"]):
        save(tmp_path / "classes" / name, picture(seed=i))
    (tmp_path / "classes" / ".cache").mkdir()
    (tmp_path / "classes" / "empty").mkdir()
    return tmp_path / "classes"


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


# --- what holds images ---------------------------------------------------------------------------------------------


def test_flat_folder_is_sorted_and_ignores_other_files(flat: Path) -> None:
    source = ImageSource.of(flat)
    assert source.names == ("a.png", "b.png", "c.JPG")
    assert source.classes is None
    read = dict(source)
    assert np.array_equal(read["b.png"], picture(seed=0))


def test_files_without_an_images_suffix_are_passed_over_by_name(flat: Path, by_class: Path) -> None:
    """Nothing is left out in silence but hidden files and what file managers leave."""
    assert ImageSource.of(flat).passed_over == ("notes.txt",)
    for folder in (flat, by_class, by_class / "cat", by_class / "empty"):
        (folder / "Thumbs.db").touch()
    (flat / "noext").write_bytes((flat / "a.png").read_bytes())
    save(by_class / "cat" / "3.pcx")
    (by_class / "empty" / "4").touch()
    (by_class / "README").touch()
    source = ImageSource.of(by_class)
    assert source.passed_over == ("README", "cat/3.pcx", "empty/4")
    assert source.classes == ("cat", "cat", "dog")
    for derived in (source.subset([0, 2]), ImageSource.of(by_class, skip_broken=True)):
        assert derived.passed_over == source.passed_over
    assert ImageSource.of(flat).passed_over == ("noext", "notes.txt")
    for image in flat.glob("*.*"):
        image.unlink()
    with pytest.raises(InputError, match=r"zero images, only 'noext'; give .* names end in \.jpg"):
        ImageSource.of(flat)


def test_class_folders(by_class: Path) -> None:
    source = ImageSource.of(str(by_class))
    assert source.names == ("cat/1.png", "cat/2.png", "dog/1.png")
    assert source.classes == ("cat", "cat", "dog")
    assert np.array_equal(source.read(2), picture(seed=2))


def test_single_file_list_of_paths_pil_and_arrays(flat: Path) -> None:
    assert ImageSource.of(flat / "a.png").names == ("a.png",)
    assert ImageSource.of([flat / "a.png", str(flat / "b.png")]).names == ("a.png", "b.png")
    mixed = ImageSource.of([flat / "b.png", Image.fromarray(picture(seed=0)), picture(seed=0)])
    assert mixed.names == ("b.png", "1", "2")
    first, *others = [pixels for _, pixels in mixed]
    assert all(np.array_equal(first, other) for other in others)
    assert len(ImageSource.of(Image.fromarray(picture()))) == 1


def test_equal_file_names_are_told_apart(by_class: Path) -> None:
    paths = [by_class / "cat" / "1.png", by_class / "dog" / "1.png"]
    assert ImageSource.of(paths).names == tuple(path.as_posix() for path in paths)
    with pytest.raises(InputError, match="listed more than once"):
        ImageSource.of([paths[0], paths[0]])


def test_arrays_and_tensors_give_the_same_pixels() -> None:
    images = np.stack([picture(6, 7, seed) for seed in range(4)])
    for equal in (
        images,
        images.astype(np.int64),
        images.astype(np.uint16) * 257,
        np.moveaxis(images, 3, 1),
        np.moveaxis(images, 3, 1).astype(np.float32) / 255,
        (images / 255).astype(np.float64),
    ):
        assert np.array_equal(np.stack([pixels for _, pixels in ImageSource.of(equal)]), images)
    grey = images[..., 0]
    for equal in (grey, grey[..., None], grey[:, None], grey[:, None] / 255):
        assert np.array_equal(np.stack([pixels for _, pixels in ImageSource.of(equal)]), grey)


def test_anything_with_array_interface_is_an_array() -> None:
    class Tensor:
        def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float32]:
            return np.zeros((2, 3, 4, 4), np.float32)

    assert [pixels.shape for _, pixels in ImageSource.of(Tensor())] == [(4, 4, 3)] * 2


def test_alpha_of_arrays_is_composited_over_white() -> None:
    rgba = np.zeros((1, 2, 2, 4), np.uint8)
    rgba[0, 0, :, 3] = 255
    ((_, pixels),) = ImageSource.of(rgba)
    assert np.array_equal(pixels[:, :, 0], [[0, 0], [255, 255]])


def test_images_are_read_only_when_asked_for(flat: Path) -> None:
    source = ImageSource.of(flat)
    (flat / "b.png").write_bytes(b"changed")
    reader: Iterator[object] = iter(source)
    next(reader)
    with pytest.raises(InputError, match=r"'b\.png' cannot be read"):
        next(reader)
    assert source.subset([2, 0]).names == ("c.JPG", "a.png")
    assert np.array_equal(source.subset([2, 0]).subset([1]).read(0), picture(seed=1))


def test_repr_shows_no_data(flat: Path) -> None:
    assert repr(ImageSource.of(flat)) == "ImageSource(3 images, 0 skipped)"


# --- kinds of image ------------------------------------------------------------------------------------------------


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(picture(4, 9))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_file(tmp_path / "turned.png"), np.rot90(picture(4, 9), -1))


def test_modes_are_converted(tmp_path: Path) -> None:
    base = Image.fromarray(picture())
    shape = (5, 8)
    for mode, channels in [("1", 2), ("L", 2), ("LA", 2), ("P", 3), ("RGBA", 3), ("PA", 3), ("YCbCr", 3), ("HSV", 3)]:
        pixels = pixels_from_pil(base.convert("RGB").convert("P" if mode == "PA" else mode).convert(mode))
        assert pixels.dtype == np.uint8, mode
        assert pixels.shape == (shape if channels == 2 else (*shape, 3)), mode
    assert np.array_equal(pixels_from_pil(base.convert("CMYK")), picture())
    assert np.array_equal(pixels_from_pil(base.convert("RGBA")), picture())
    base.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert read_file(tmp_path / "cmyk.jpg").shape == (5, 8, 3)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535], [128 * 257, 1000, 40000]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    expected = np.rint(deep / 257).astype(np.uint8)
    assert np.array_equal(read_file(tmp_path / "deep.png"), expected)
    assert np.array_equal(read_file(tmp_path / "deep.tif"), expected)
    assert np.array_equal(pixels_from_pil(Image.fromarray(deep.astype(np.int32))), expected)
    assert np.array_equal(pixels_from_pil(Image.fromarray((expected / 255).astype(np.float32))), expected)
    with pytest.raises(InputError, match="more than 16 bits"):
        pixels_from_pil(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_transparency_is_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    expected = [[[10, 20, 30], [255, 255, 255]]]
    assert np.array_equal(read_file(tmp_path / "alpha.png"), expected)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([10, 20, 30, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert np.array_equal(read_file(tmp_path / "palette.png"), expected)
    grey = Image.fromarray(np.array([[7, 9]], np.uint8))
    grey.save(tmp_path / "grey.png", transparency=9)
    assert np.array_equal(read_file(tmp_path / "grey.png"), [[7, 255]])


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_file(tmp_path / "moving.gif"), np.full((4, 4, 3), (255, 0, 0)))


# --- what cannot be read -------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


BAD_FILES = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "just-above": (png_header(8001, 8000), f"{PIXEL_LIMIT:,}"),
    "bomb": (png_header(10_000, 10_000), f"{PIXEL_LIMIT:,}"),
    "larger-bomb": (png_header(100_000, 100_000), f"{PIXEL_LIMIT:,}"),
    "empty": (b"", "empty"),
    "text": (b"this is not an image", "known format"),
    "header-alone": (png_header(8, 8), "damaged or cut off"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known format"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_named(kind: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[kind]
    (tmp_path / f"{kind}.jpg").write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(ImageSource.of(tmp_path))
    assert f"'{kind}.jpg'" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_file_is_named_and_skipped_on_request(flat: Path) -> None:
    whole = (flat / "c.JPG").read_bytes()
    (flat / "c.JPG").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match=r"'c\.JPG' cannot be read.*skip_broken"):
        list(ImageSource.of(flat))
    source = ImageSource.of(flat, skip_broken=True)
    assert source.names == ("a.png", "b.png")
    assert [skipped.name for skipped in source.skipped] == ["c.JPG"]
    assert len(list(source)) == len(source) == 2
    for file in flat.iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match="None of the 3 images"):
        ImageSource.of(flat, skip_broken=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["png", "jpg", "gif", "bmp", "webp", "tif", "ppm", "ico"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    keep=st.floats(0.2, 1),
)
def test_damaged_files_are_read_or_refused(
    kind: str, changes: list[tuple[float, int]], keep: float, tmp_path: Path
) -> None:
    path = save(tmp_path / f"damaged.{kind}", picture(16, 16))
    content = bytearray(path.read_bytes())
    content = content[: int(len(content) * keep)]
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    path.write_bytes(content)
    try:
        pixels = read_file(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 2 or pixels.shape[2] == 3


def test_missing_file_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'gone\.png' cannot be read: there is no such file"):
        list(ImageSource.of([tmp_path / "gone.png"]))


def test_unusable_sources(tmp_path: Path, flat: Path, by_class: Path) -> None:
    (tmp_path / "none").mkdir()
    for images, message in [
        (tmp_path / "none", "zero images"),
        (tmp_path / "nowhere", "no folder or image"),
        ([], "zero images"),
        (np.zeros((0, 4, 4), np.uint8), "zero images"),
        (np.zeros((4, 4), np.uint8), "leading axis"),
        (np.zeros((2, 5, 4, 6), np.uint8), "1, 3 or 4 channels"),
        (3.5, "type float"),
        (["a.png", 7], "int is not an image"),
    ]:
        with pytest.raises(InputError, match=message):
            ImageSource.of(images)
    save(by_class / "loose.png")
    with pytest.raises(InputError, match="both images and folders"):
        ImageSource.of(by_class)
    (by_class / "loose.png").unlink()
    save(by_class / "deep" / "er" / "1.png")
    with pytest.raises(InputError, match="deeper than one folder"):
        ImageSource.of(by_class)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((1, 4, 4), np.nan), "NaN"),
        (np.full((1, 4, 4), -0.5), r"\[0, 1\]"),
        (np.full((1, 4, 4), 300), "0..255"),
        (np.full((1, 4, 4), "x"), "numbers"),
        (np.zeros((1, 0, 4), np.uint8), "no pixels"),
    ],
)
def test_unusable_pixels_are_named(image: NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=f"'0' cannot be read.*{message}"):
        list(ImageSource.of(image))


def test_tensor_that_refuses(tmp_path: Path) -> None:
    class OnDevice:
        def __array__(self, dtype: object = None, copy: object = None) -> NDArray[np.float32]:
            raise TypeError("on another device")

    with pytest.raises(InputError, match="move it to the CPU"):
        ImageSource.of(OnDevice())


# --- labels --------------------------------------------------------------------------------------------------------


def test_labels_of_class_folders(by_class: Path) -> None:
    labels = read_labels(ImageSource.of(by_class))
    assert labels.classes == ("cat", "dog")
    assert labels.numbers.tolist() == [0, 0, 1]
    assert labels.numbers.dtype == np.int64
    assert "cat" not in repr(labels)


def test_labels_from_csv(flat: Path, tmp_path: Path) -> None:
    path = csv_file(tmp_path, '\ufefffile,label,remark\nc.JPG,dog,\n"./a.png",cat,x\n\nb.png,dog,\n')
    labels = read_labels(ImageSource.of(flat), path)
    assert labels.classes == ("cat", "dog")
    assert labels.numbers.tolist() == [0, 1, 1]


def test_labels_from_sequences_and_numbers_are_sorted_by_value(flat: Path) -> None:
    source = ImageSource.of(flat)
    assert read_labels(source, [10, 9, 10]).classes == ("9", "10")
    assert read_labels(source, np.array([1.0, 0.0, 1.0])).numbers.tolist() == [1, 0, 1]
    assert read_labels(source, ("x", "y", "x")).classes == ("x", "y")
    assert read_labels(source, ["x"] * 3, classes=["y", "x"]).numbers.tolist() == [1, 1, 1]


def test_labels_of_skipped_images_are_left_out(flat: Path, tmp_path: Path) -> None:
    (flat / "b.png").write_bytes(b"broken")
    source = ImageSource.of(flat, skip_broken=True)
    labels = read_labels(source, csv_file(tmp_path, "file,label\na.png,x\nb.png,y\nc.JPG,y\n"))
    assert labels.numbers.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\nb.png,y\nc.JPG,x\ngone.png,y\n", r"labels what is not among the images \('gone\.png'\)"),
        (
            "file,label\na.png,x\nb.png,y\nc.JPG,x\nnotes.txt,y\n",
            r"is there but has no image's suffix \('notes\.txt'\)",
        ),
        ("file,label\na.png,x\nb.png,y\n", r"no label for 1 of 3 images \('c\.JPG'\)"),
        ("file,label\na.png,x\na.png,x\n", "a second time"),
        ("file,label\na.png,x\nb.png,x\nc.JPG,x\n", "one class only"),
        ("file,label\na.png,\n", "lacks a file or a label"),
        ("file,label\na.png\n", "lacks a file or a label"),
        ("a.png,x\n", "begin with the line 'file,label'"),
        ("", "begin with the line 'file,label'"),
        ('file,label\n"a.png,x\n', "not valid CSV"),
    ],
)
def test_unusable_csv(text: str, message: str, flat: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_labels(ImageSource.of(flat), csv_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_unusable_labels(flat: Path, by_class: Path, tmp_path: Path) -> None:
    source = ImageSource.of(flat)
    (tmp_path / "latin.csv").write_bytes("file,label\na.png,caf\xe9\n".encode("latin-1"))
    for labels, message in [
        (None, "have no labels"),
        (tmp_path / "gone.csv", "cannot be read"),
        (tmp_path / "latin.csv", "UTF-8"),
        ([1, 2], "2 labels for 3 images"),
        ([0.5, 1.0, 0.0], "one class name or whole number"),
        (np.zeros((3, 2)), "one class name or whole number"),
    ]:
        with pytest.raises(InputError, match=message):
            read_labels(source, labels)
    with pytest.raises(InputError, match="'dog' is not a class"):
        read_labels(ImageSource.of(by_class), classes=["cat", "other"])
