"""The container: round trips, all-or-nothing writing, and every hostile file by name."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacks.forge import ATTACKS, join, split
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file

from cipherlens.errors import CipherlensError, FormatError, InputError
from cipherlens.wire import container
from cipherlens.wire.container import Kind, Reader, Writer, canonical_json
from cipherlens.wire.layout import DTYPES, place

HEADER = {"key_id": "00ff", "levels": [1, 2], "scale": 0.1, "nested": {"ü": None, "on": True}}
A = np.array([1.5, -2.0, np.inf])
B = np.arange(6, dtype=np.uint8)


def write_small(path: Path, kind: Kind = Kind.MODEL, **options: Any) -> bytes:
    """The tensors a (F64, 3) and b (U8, 6), written row by row in turns."""
    with Writer(path, kind, HEADER, {"b": (np.uint8, (6,)), "a": (np.float64, (3,))}, **options) as writer:
        for i in range(3):
            writer.write("b", B[2 * i : 2 * i + 2])
            writer.write("a", A[i : i + 1])
    return path.read_bytes()


@pytest.fixture
def small(tmp_path: Path) -> bytes:
    return write_small(tmp_path / "small.cl")


def read_everything(path: Path) -> dict[str, Any]:
    with Reader.open(path, None) as reader:
        return {name: reader.read(name) for name in reader.shapes}


# Round trips


def test_what_is_written_is_read(tmp_path: Path, small: bytes) -> None:
    with Reader.open(tmp_path / "small.cl", {Kind.MODEL, Kind.REPLY}) as reader:
        assert reader.kind is Kind.MODEL and reader.header == HEADER
        assert reader.shapes == {"a": (3,), "b": (6,)}
        assert reader.body_sha256 == hashlib.sha256(small[-30:]).hexdigest()
        assert reader.dtypes == {"a": np.dtype("<f8"), "b": np.dtype("u1")}
        np.testing.assert_array_equal(reader.read("a"), A)
        np.testing.assert_array_equal(reader.read("b", 2, 5), B[2:5])
        assert reader.read("b", 3, 3).shape == (0,)
        with pytest.raises(InputError, match="has 6 rows, not 0"):
            reader.read("b", 0, 7)
        with pytest.raises(FormatError, match="no tensor 'c'"):
            reader.read("c")
        assert reader.expect("a", float, (None,)) == (3,)
        for name, dtype, shape in (
            ("a", np.float32, (3,)),
            ("a", float, (4,)),
            ("a", float, (3, 1)),
            ("c", float, (3,)),
        ):
            with pytest.raises(FormatError):
                reader.expect(name, dtype, shape)
        reader.expect_only({"a", "b"})
        with pytest.raises(FormatError, match="'b' that does not belong"):
            reader.expect_only({"a"})


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex("[A-Za-z0-9_.-]{1,12}", fullmatch=True),
        st.sampled_from(list(DTYPES.values())).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
        ),
        max_size=5,
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
        max_leaves=8,
    ),
)  # fmt: skip
def test_any_tensors_and_header_round_trip(tmp_path_factory: Any, tensors: dict[str, Any], value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.cl"
    with Writer(path, Kind.IMAGES, {"value": value}, {n: (a.dtype, a.shape) for n, a in tensors.items()}) as writer:
        for name, array in tensors.items():
            writer.write(name, array)
    with Reader.open(path, Kind.IMAGES) as reader:
        assert reader.header == {"value": value}
        for name, array in tensors.items():
            assert reader.read(name).tobytes() == array.tobytes()
    theirs = load_file(path)  # the reference parser of safetensors agrees
    assert {n: a.tobytes() for n, a in theirs.items()} == {n: a.tobytes() for n, a in tensors.items()}


def test_a_file_is_a_safetensors_file(tmp_path: Path, small: bytes) -> None:
    with safe_open(tmp_path / "small.cl", "numpy") as theirs:
        metadata = theirs.metadata()
        assert metadata["format"] == "1" and metadata["kind"] == "model"
        assert metadata["header"] == canonical_json(HEADER)
    assert (int.from_bytes(small[:8], "little") + 8) % 8 == 0
    assert write_small(tmp_path / "again.cl") == small  # the same content is the same bytes


def test_elements_are_aligned() -> None:
    tensors = place({"x": (np.uint8, (3,)), "y": (np.int64, (1,)), "z": (np.float32, (3,)), "w": (np.int32, (1, 1))})
    assert all(t.begin % t.dtype.itemsize == 0 for t in tensors.values())
    assert list(tensors) == ["y", "w", "z", "x"]


def test_threads_read_side_by_side(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (64, 5000), dtype=np.uint8)
    with Writer(tmp_path / "x.cl", Kind.IMAGES, {}, {"rows": (np.uint8, rows.shape)}) as writer:
        writer.write("rows", rows)
    wrong: list[int] = []
    with Reader.open(tmp_path / "x.cl", Kind.IMAGES) as reader:

        def work() -> None:
            wrong.extend(i for i in range(64) if not np.array_equal(reader.read("rows", i, i + 1)[0], rows[i]))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# Writing: all or nothing


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, small: bytes, interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt), Writer(tmp_path / "small.cl", Kind.MODEL, {}, {"a": (float, (2,))}) as writer:
        writer.write("a", A[:1])
        raise interrupt
    assert os.listdir(tmp_path) == ["small.cl"] and (tmp_path / "small.cl").read_bytes() == small


@pytest.mark.parametrize("step", ["fsync", "replace", "pread"])
def test_an_interruption_while_finishing_leaves_the_old_file(
    tmp_path: Path, small: bytes, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_small(tmp_path / "small.cl", Kind.REPLY)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["small.cl"] and (tmp_path / "small.cl").read_bytes() == small


def test_a_file_too_large_for_the_system_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # the kernel itself refuses to write on
    try:
        with (
            pytest.raises(InputError, match=r"big\.cl cannot be written: the disk has no room for 0\.\d MB; make room"),
            Writer(tmp_path / "big.cl", Kind.IMAGES, {}, {"a": (np.uint8, (1 << 18,))}) as writer,
        ):
            writer.write("a", np.zeros(1 << 18, np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "no room"),
        (errno.EDQUOT, "no room"),
        (errno.EROFS, "is not writable"),
        (errno.EIO, "choose another place"),
    ],
)
@pytest.mark.parametrize("step", ["open", "pwrite", "fsync"])
def test_failures_of_the_disk(
    tmp_path: Path, small: bytes, step: str, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(InputError, match=sentence):
        write_small(tmp_path / "small.cl", Kind.REPLY)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["small.cl"] and (tmp_path / "small.cl").read_bytes() == small


def test_a_full_disk_is_noticed_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs 1,000,000,000,000\.0 MB and its disk has .* free"):
        Writer(tmp_path / "x.cl", Kind.IMAGES, {}, {"a": (np.uint8, (10**6, 10**12))})
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder"):
        write_small(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*/none; create it first"):
        write_small(tmp_path / "none" / "x.cl")
    with pytest.raises(InputError, match="not a regular file"):
        write_small(Path("/dev/null"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="there is no folder"):
        write_small(tmp_path / "file" / "x.cl")


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "link.cl").symlink_to(tmp_path / "target.cl")
    write_small(tmp_path / "link.cl")
    assert (tmp_path / "link.cl").is_symlink() and Reader.open(tmp_path / "target.cl", Kind.MODEL).header == HEADER


def test_private_files_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_small(tmp_path / "public.cl")
        write_small(tmp_path / "secret.cl", private=True)
        write_small(tmp_path / "public.cl", private=True)  # also where a readable file was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret.cl").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public.cl").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("misuse", "sentence"),
    [
        (lambda w: w.write("a", A[:2]), "announced with 3 rows but got 2"),
        (lambda w: w.write("a", np.concatenate([A, A])), "announced with 3 rows and would get 6"),
        (lambda w: w.write("a", A.astype(np.float32)), "rows of 'a' are float32"),
        (lambda w: w.write("a", A[:, None]), "rows of 'a' are float64"),
    ],
)
def test_misuse_of_the_writer(tmp_path: Path, misuse: Callable[[Writer], None], sentence: str) -> None:
    with (
        pytest.raises(InputError, match=sentence),
        Writer(tmp_path / "x", Kind.TASK, {}, {"a": (float, (3,))}) as writer,
    ):
        misuse(writer)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "shape", [(np.complex128, (1,)), (float, ()), (float, (-1,)), (float, (3, 0)), (float, (1,) * 9)]
)
def test_tensors_that_cannot_be_stored(tmp_path: Path, shape: tuple[Any, tuple[int, ...]]) -> None:
    with pytest.raises(InputError):
        Writer(tmp_path / "x", Kind.TASK, {}, {"a": shape})


# Reading what somebody sent


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(tmp_path: Path, small: bytes, name: str) -> None:
    attack, sentence = ATTACKS[name]
    path = tmp_path / "sent.cl"
    path.write_bytes(attack(small))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=sentence) as refusal:
            read_everything(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    message = str(refusal.value)
    assert "sent.cl" in message and message.isprintable() and len(message) < 300


def test_forging_without_a_change_is_accepted(tmp_path: Path, small: bytes) -> None:
    (tmp_path / "sent.cl").write_bytes(join(*split(small)))  # or the attacks would prove nothing
    assert read_everything(tmp_path / "sent.cl").keys() == {"a", "b"}


def test_every_truncation_is_refused(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "cut.cl"
    for length in range(len(small)):
        path.unlink(missing_ok=True)
        path.write_bytes(small[:length])
        with pytest.raises(FormatError):
            read_everything(path)


def test_every_flipped_bit_is_refused(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "flipped.cl"
    for bit in range(8 * len(small)):
        altered = bytearray(small)
        altered[bit // 8] ^= 1 << bit % 8
        path.unlink(missing_ok=True)
        path.write_bytes(altered)
        with pytest.raises(FormatError):
            read_everything(path)


def test_a_promise_of_10_TB_in_a_sparse_file(tmp_path: Path, small: bytes) -> None:
    fields, body = split(small)
    fields["b"] |= {"shape": [10**13], "data_offsets": [24, 24 + 10**13]}
    path = tmp_path / "sparse.cl"
    path.write_bytes(join(fields, body))
    try:
        os.truncate(path, path.stat().st_size - 6 + 10**13)
    except OSError:
        pytest.skip("this file system has no files of 10 TB")
    with Reader.open(path, Kind.MODEL, verify=False) as reader:  # rows are still read one by one
        assert reader.read("b", 10**13 - 2).tolist() == [0, 0]


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, small: bytes) -> None:
    with Reader.open(tmp_path / "small.cl", Kind.MODEL) as reader:
        os.truncate(tmp_path / "small.cl", len(small) - 2)
        with pytest.raises(FormatError, match="became shorter"):
            reader.read("b")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        Reader.open(tmp_path / "none.cl", None)
    with pytest.raises(InputError, match="is a folder"):
        Reader.open(tmp_path, None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        Reader.open(tmp_path / "pipe", None)
    with pytest.raises(InputError):
        Reader.open(tmp_path / ("x" * 300), None)
    with pytest.raises(InputError):
        Reader.open("a\0b", None)


def test_another_kind_is_named(tmp_path: Path, small: bytes) -> None:
    with pytest.raises(
        FormatError, match=r"small.cl holds an encrypted model, but should hold a reply or encrypted images"
    ):
        Reader.open(tmp_path / "small.cl", {Kind.IMAGES, Kind.REPLY})


def test_no_file_stays_open(tmp_path: Path, small: bytes) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    (tmp_path / "cut.cl").write_bytes(small[:-1])
    for _ in range(5):
        with pytest.raises(CipherlensError):
            Reader.open(tmp_path / "cut.cl", None)
        Reader.open(tmp_path / "small.cl", None)  # closed when nothing refers to it
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


# Fields of a header

FIELDS: dict[str, Any] = {
    "int": 3, "float": 0.5, "bool": True, "text": "abc", "hex": "00ff", "list": [1, 2], "object": {}, "null": None,
}  # fmt: skip
GETTERS: dict[str, tuple[Callable[[str], Any], set[str]]] = {
    "int": (lambda name: container.header_int(FIELDS, name, 0, 3), {"int"}),
    "int_range": (lambda name: container.header_int(FIELDS, name, 0, 2), set()),
    "float": (lambda name: container.header_float(FIELDS, name, 0, 3), {"int", "float"}),
    "bool": (lambda name: container.header_bool(FIELDS, name), {"bool"}),
    "str": (lambda name: container.header_str(FIELDS, name), {"text", "hex"}),
    "str_short": (lambda name: container.header_str(FIELDS, name, 3), {"text"}),
    "str_form": (lambda name: container.header_str(FIELDS, name, pattern="[0-9a-f]+"), {"text", "hex"}),
    "hex": (lambda name: container.header_hex(FIELDS, name, 4), {"hex"}),
    "choice": (lambda name: container.header_choice(FIELDS, name, ("abc", "x")), {"text"}),
    "object": (lambda name: container.header_object(FIELDS, name), {"object"}),
    "list": (lambda name: container.header_list(FIELDS, name, 2), {"list"}),
    "list_short": (lambda name: container.header_list(FIELDS, name, 1), set()),
    "ints": (lambda name: container.header_ints(FIELDS, name, 2, 1, 2), {"list"}),
    "ints_range": (lambda name: container.header_ints(FIELDS, name, 2, 0, 1), set()),
}


@pytest.mark.parametrize("getter", GETTERS)
def test_header_fields(getter: str) -> None:
    get, good = GETTERS[getter]
    for name in [*FIELDS, "missing"]:
        if name in good:
            assert get(name) in (FIELDS[name], tuple(FIELDS[name]) if name == "list" else None)
        else:
            with pytest.raises(FormatError, match=name):
                get(name)
