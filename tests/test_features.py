"""Base features, whitening and the feature map: against naive formulas, and everything that must be refused."""

import hashlib
import importlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_workflow import draw_images
from numpy.typing import NDArray
from PIL import Image

import cipherlens as cl
from cipherlens.cli.main import main
from cipherlens.data import demo_cats
from cipherlens.errors import FormatError, InputError
from cipherlens.features import backbone
from cipherlens.features.backbone import Backbone
from cipherlens.features.base import SQUARES, choose, extract, extract_batches
from cipherlens.features.feature_map import FeatureMap
from cipherlens.features.hog import Hog, HogSquares, histograms
from cipherlens.features.images import ImageSource
from cipherlens.features.onnx_files import refers_to_files
from cipherlens.features.pixels import Pixels, resize
from cipherlens.features.whitening import CLIP, LARGEST, Whitening, fit_whitening
from cipherlens.learning.bounds import choose_bounds
from cipherlens.planning.task import Task

onnx = pytest.importorskip("onnx")


def images(count: int = 12, height: int = 28, width: int = 28, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)


# --- pixels --------------------------------------------------------------------------------------------------------


def test_two_by_two_means_are_exact() -> None:
    digits = images()
    expected = digits.reshape(12, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(12, 196) / 255
    assert np.array_equal(Pixels(14, 14).extractor()(list(digits)), expected)


def test_area_means_of_any_size_keep_the_mean_and_colour() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    grey = colour[:, :, 0]
    for size in [(8, 5), (37, 53), (64, 100)]:
        out = resize([colour, grey], *size, colour=True)
        assert out.shape == (2, *size, 3)
        assert np.allclose(out[0].mean(axis=(0, 1)), colour.mean(axis=(0, 1)))
        assert np.array_equal(out[1, :, :, 0], out[1, :, :, 2])
    luma = resize([colour], 37, 53, colour=False)[0]
    assert np.allclose(luma, colour @ [0.299, 0.587, 0.114])
    assert np.array_equal(resize([np.stack([grey] * 3, axis=2)], 37, 53, colour=False)[0], grey)


# --- gradient histograms -------------------------------------------------------------------------------------------


def naive_histogram(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = grey.shape
    cells = np.zeros((height // 4 - 1, width // 4 - 1, 8))
    for y in range(height):
        for x in range(width):
            down = grey[y + 1, x] - grey[y - 1, x] if 0 < y < height - 1 else 0.0
            across = grey[y, x + 1] - grey[y, x - 1] if 0 < x < width - 1 else 0.0
            place = (np.arctan2(down, across) % np.pi) / np.pi * 8
            share = place - np.floor(place)
            for i in range(cells.shape[0]):
                for j in range(cells.shape[1]):
                    if 4 * i <= y < 4 * i + 8 and 4 * j <= x < 4 * j + 8:
                        cells[i, j, int(place) % 8] += np.hypot(down, across) * (1 - share)
                        cells[i, j, (int(place) + 1) % 8] += np.hypot(down, across) * share
    root = np.sqrt(cells).ravel()
    norm = float(np.linalg.norm(root))
    return root / norm if norm else root


def test_histograms_equal_the_naive_formula() -> None:
    for height, width in [(28, 28), (12, 20)]:
        grey = images(3, height, width).astype(np.float64)
        grey[1] = np.arange(width)  # one orientation alone
        grey[2] = 9.0  # no gradient at all
        got = histograms(grey)
        assert got.shape == (3, Hog(height, width).dimension)
        assert np.allclose(got, [naive_histogram(image) for image in grey], atol=1e-12)
    assert Hog(28, 28).dimension == 288


def test_squares_follow_the_histograms_with_their_spread() -> None:
    hog = Hog(28, 28)
    plain = hog.extractor()(list(images(40)))
    squared = HogSquares.fit(hog, plain, 223, seed=3)
    features = squared.extractor()(list(images(40)))
    assert features.shape == (40, 511) == (40, squared.dimension)
    assert np.array_equal(features[:, :288], plain)
    assert np.allclose(features[:, 288:], ((plain - plain.mean(axis=0)) @ squared.projection) ** 2)
    spread = features.std(axis=0)
    assert np.allclose(spread[288:], np.sqrt(np.mean(spread[:288] ** 2)))
    assert np.array_equal(squared.projection, HogSquares.fit(hog, plain, 223, seed=3).projection)
    assert not np.array_equal(squared.projection, HogSquares.fit(hog, plain, 223, seed=4).projection)


# --- whitening -----------------------------------------------------------------------------------------------------


def sample(n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def test_whitening_without_shrinkage_whitens_the_sample() -> None:
    table = sample(500, 20)
    columns = fit_whitening(table, 32, 0.0).apply(table)
    assert columns.shape == (500, 32)
    assert np.all(columns[:, 31] == 1.0)
    assert np.all(columns[:, 20:31] == 0.0)
    assert np.allclose(columns[:, :20].mean(axis=0), 0)
    assert np.allclose(columns[:, :20].T @ columns[:, :20] / 500, np.eye(20))


def test_shrinkage_adds_to_the_mean_eigenvalue() -> None:
    table = sample(300, 10)
    eigenvalues = np.linalg.eigvalsh(np.cov(table.T, bias=True))[::-1]
    columns = fit_whitening(table, 16, 0.5).apply(table)
    assert np.allclose(columns.var(axis=0)[:10], eigenvalues / (eigenvalues + 0.5 * eigenvalues.mean()))


def test_more_features_than_columns_or_images() -> None:
    table = sample(50, 40)
    direct = fit_whitening(table, 8, 0.1).apply(table)
    assert np.allclose(np.linalg.norm(direct[:, :7], axis=1) > 0, True)
    wide = sample(12, 100)
    columns = fit_whitening(wide, 64, 0.1).apply(wide)
    assert np.count_nonzero(columns.any(axis=0)) == 12  # eleven directions and the constant
    whole = fit_whitening(sample(12, 30), 64, 0.1)
    assert np.count_nonzero(whole.matrix.any(axis=0)) == 30  # also where twelve images do not vary
    # Both ways to the principal directions are one: the Gram matrix (n < d) and the covariance (n >= d).
    doubled = np.vstack([wide] * 9)
    assert np.allclose(fit_whitening(doubled, 64, 0.1).matrix, fit_whitening(wide, 64, 0.1).matrix)


def test_constant_features_are_dropped_and_values_clipped() -> None:
    table = np.column_stack([sample(100, 3), np.full(100, 7.0), np.full(100, 7.0) + 1e-9 * np.arange(100)])
    whitening = fit_whitening(table, 8, 0.0)
    assert not whitening.matrix[3:].any()
    far = whitening.apply(table + 1e6)
    assert np.abs(far[:, :3]).max() == CLIP
    assert far[:, 7].tolist() == [1.0] * 100


def test_features_that_differ_by_rounding_alone_are_constant() -> None:
    """The mean of equal numbers is rounded already, and a network may round the same image in several ways."""
    rng = np.random.default_rng(5)
    equal = np.tile(rng.uniform(0.1, 2, size=40), (80, 1))
    for table in (equal, equal * (1 + 2.0**-22 * rng.normal(size=equal.shape)), np.zeros((80, 40))):
        with pytest.raises(InputError, match="All 40 features are the same in all 80 clear images"):
            fit_whitening(table, 64, 1.0)
    with pytest.raises(InputError, match="All 1280 features are the same"):
        cl.plan(np.full((40, 12, 12), 128, np.uint8), ["a", "b"] * 20, features="lite0")
    varied = equal.copy()
    varied[:, :3] += 0.01 * rng.normal(size=(80, 3))
    assert np.count_nonzero(fit_whitening(varied, 64, 1.0).matrix.any(axis=1)) == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("standardise", [False, True])
def test_features_of_any_size_up_to_the_limit_are_computed_with_safely(standardise: bool) -> None:
    rng = np.random.default_rng(6)
    for powers in (rng.uniform(-160, 99, size=12), rng.uniform(-160, 99, size=(60, 12))):
        table = rng.normal(size=(60, 12)) * 10.0**powers
        table[0, 0] = -LARGEST
        whitening = choose_bounds(table, 16, standardise=standardise).whitening
        extremes = rng.choice([-LARGEST, LARGEST], size=(50, 12))
        assert np.isfinite(whitening.apply(extremes)).all()


@pytest.mark.filterwarnings("error")
def test_features_beyond_the_limit_are_refused_as_such() -> None:
    table = sample(20, 4)
    for value in (1e160, -1e300, np.nextafter(LARGEST, np.inf)):
        table[7, 1] = value
        with pytest.raises(
            InputError, match="1 of the features lie beyond ±1e\\+100, the first in row 7, column 1; rescale"
        ):
            fit_whitening(table, 8, 0.1, standardise=True)
    with pytest.raises(InputError, match="beyond"):
        fit_whitening(np.array([[10**400, 1]]), 8, 0.1)
    with pytest.raises(InputError, match="infinite"):
        fit_whitening(np.array([["1e400"], ["1"]]).astype(np.longdouble), 8, 0.1)


def test_standardising_makes_units_irrelevant() -> None:
    table, units = sample(100, 5), np.array([1e-6, 1.0, 1e6, 3.0, 1e-3])
    one = fit_whitening(table, 8, 0.3, standardise=True).apply(table)
    other = fit_whitening(table * units, 8, 0.3, standardise=True).apply(table * units)
    assert np.allclose(one, other)


def test_unusable_tables() -> None:
    good = sample(20, 4)
    bad = good.copy()
    bad[3, 2] = np.nan
    whitening = fit_whitening(good, 8, 0.1)
    for table in (bad, np.where(np.isnan(bad), np.inf, bad)):
        with pytest.raises(InputError, match="NaN or infinite, the first in row 3, column 2"):
            fit_whitening(table, 8, 0.1)
        with pytest.raises(InputError, match="row 3"):
            whitening.apply(table)
    with pytest.raises(InputError, match="3 columns but the task was planned with 4"):
        whitening.apply(good[:, :3])
    with pytest.raises(InputError, match="at least 2 clear images and got 1"):
        fit_whitening(good[:1], 8, 0.1)
    with pytest.raises(InputError, match="All 4 features are the same in all 5"):
        fit_whitening(np.ones((5, 4)), 8, 0.1)
    with pytest.raises(InputError, match="power of two"):
        fit_whitening(good, 12, 0.1)
    with pytest.raises(InputError, match="shrinkage"):
        fit_whitening(good, 8, -1.0)
    with pytest.raises(InputError, match="table"):
        fit_whitening(good[0], 8, 0.1)
    with pytest.raises(InputError, match="not; encode or drop"):
        fit_whitening(np.array([["a", "b"], ["c", "d"]]), 8, 0.1)
    assert "0." not in repr(whitening)


# --- the pretrained network ----------------------------------------------------------------------------------------


def test_lite0_is_the_released_file_with_its_licence() -> None:
    data = files("cipherlens.features") / "data"
    digest = "10eff876356e54a9887acaab8590da0c4746f3b91abd0c0131e0c3216e21f0ee"
    assert hashlib.sha256((data / "lite0.onnx").read_bytes()).hexdigest() == digest
    assert "Apache License" in (data / "lite0.LICENSE").read_text(encoding="utf-8")


def test_lite0_computes_in_single_precision_whatever_batch_and_threads() -> None:
    model = onnx.load_model_from_string(Backbone.lite0().model)
    halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    users = {node.op_type for node in model.graph.node if halves & set(node.input)}
    assert users == {"Cast"}
    pictures = list(demo_cats()[1].images[:5])
    one = Backbone.lite0().extractor(1)
    features = one(pictures)
    assert features.shape == (5, 1280)
    assert np.array_equal(features, np.vstack([one([picture]) for picture in pictures]))
    assert np.array_equal(features, Backbone.lite0().extractor(2)(pictures))


def test_lite0_features_are_those_of_the_original_network() -> None:
    # The features of a grey ramp, computed by the PyTorch network in single precision.
    ramp = np.add.outer(np.arange(224), np.arange(224)).astype(np.float64) / 446 * 255
    features = Backbone.lite0().extractor(1)([ramp.astype(np.uint8)])[0]
    recorded = json.loads((Path(__file__).parent / "fixtures" / "lite0_ramp.json").read_text())
    expected = np.sqrt(recorded["features"])
    assert np.linalg.norm(features - expected) <= 0.02 * np.linalg.norm(expected)


def small_model(path: Path, shape: list[int | str], pooled: bool = False, channels: int = 3) -> Path:
    """Convolution with a fixed 1 x 1 kernel: (n, channels, h, w) -> (n, 2, h, w), or pooled to (n, 2)."""
    weight = np.arange(1, 2 * channels + 1, dtype=np.float32).reshape(2, channels, 1, 1)
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["map"])]
    if pooled:
        nodes.append(onnx.helper.make_node("ReduceMean", ["map"], ["mean"], axes=[2, 3], keepdims=0))
    output = onnx.helper.make_tensor_value_info("mean" if pooled else "map", onnx.TensorProto.FLOAT, None)
    source = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph(nodes, "small", [source], [output], [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7), path)
    return path


def test_plan_takes_a_models_mean_and_deviation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_images(tmp_path / "train", 16, 0)
    model = small_model(tmp_path / "g.onnx", ["n", 1, 12, 12], channels=1)

    def plan(features: str, *more: str) -> int:
        images, out = str(tmp_path / "train"), str(tmp_path / "task.cl")
        options = ("--dimension", "8", "--steps", "1", "--replace", *more)
        return main(["plan", "--images", images, "--out", out, "--features", features, *options])

    assert plan(str(model), "--mean", "10.5", "--deviation", "200") == 0
    base = Task.load(tmp_path / "task.cl").feature_map.base
    assert isinstance(base, Backbone)
    assert (base.mean, base.deviation) == ((10.5,), (200.0,))
    assert plan(str(model)) == 0
    for features, numbers, sentence in (
        ("hog", "1", "belong to an ONNX model's path"),
        (str(model), "1;2", "takes numbers with commas between them"),
        (str(model), "1,2,3", "takes 1 channels"),
    ):
        capsys.readouterr()
        assert plan(features, "--mean", numbers) == 1
        assert sentence in capsys.readouterr().err


def test_a_grey_model_is_recognised_by_its_input(tmp_path: Path) -> None:
    grey = Backbone.load(small_model(tmp_path / "g.onnx", ["n", 1, 6, 6], channels=1))
    assert (grey.mean, grey.deviation) == ((127.5,), (127.5,))
    white = np.full((6, 6), 255, np.uint8)
    given = Backbone.load(tmp_path / "g.onnx", mean=(255.0,))
    assert given.deviation == (127.5,)
    assert np.abs(grey.extractor()([white])).max() > 0.01
    assert np.abs(given.extractor()([white])).max() == 0
    assert choose(str(tmp_path / "g.onnx"), [white]) == grey


def test_a_users_model(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    mean, deviation = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
    normal = (colour.mean(axis=(1, 2)) - mean) / deviation
    expected = normal @ np.arange(1, 7).reshape(2, 3).T
    shapes: list[list[int | str]] = [["n", 3, "h", "w"], [1, 3, 6, 6]]
    for shape in shapes:
        for pooled in (False, True):
            path = small_model(tmp_path / "m.onnx", shape, pooled)
            model = Backbone.load(path, (6, 6), mean, deviation)
            assert np.allclose(model.extractor()(list(colour)), expected, rtol=1e-5)
            rooted = Backbone.load(path, (6, 6), mean, deviation, root=True).extractor()(list(colour))
            assert np.allclose(rooted, np.sign(expected) * np.sqrt(np.abs(expected)), rtol=1e-5)
    assert Backbone.load(small_model(tmp_path / "m.onnx", ["n", 3, "h", "w"])).height == 224
    assert Backbone.load(small_model(tmp_path / "m.onnx", ["n", 3, 6, 8])).width == 8
    grey = Backbone.load(small_model(tmp_path / "g.onnx", ["n", 1, "h", "w"], channels=1), (6, 6), (0.0,), (1.0,))
    assert np.allclose(grey.extractor()([colour[0, :, :, 0]])[0], colour[0, :, :, 0].mean() * np.array([1, 2]))


def external(model: bytes, wrapped: bool) -> bytes:
    """The same model with a weight that lies in another file, in its main graph or in a branch of an `If`."""
    loaded = onnx.load_from_string(model)
    tensor = onnx.TensorProto(name="stolen", data_type=1, dims=[8], data_location=1)
    for key, value in (("location", "KEYS/secret.cl"), ("length", "32")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    graph = loaded.graph
    if wrapped:
        graph = loaded.graph.node.add(op_type="If").attribute.add(name="then_branch", type=5).g
    graph.initializer.append(tensor)
    return bytes(loaded.SerializeToString())


@pytest.mark.parametrize("wrapped", [False, True])
def test_models_cannot_read_files(wrapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime opens whatever file a model names; a task's model must not carry a key away in the features."""
    (tmp_path / "KEYS").mkdir()
    (tmp_path / "KEYS" / "secret.cl").write_bytes(bytes(range(32)))
    monkeypatch.chdir(tmp_path)
    good = small_model(tmp_path / "m.onnx", ["n", 3, "h", "w"]).read_bytes()
    assert not refers_to_files(good) and not refers_to_files(Backbone.lite0().model)
    evil = external(good, wrapped)
    assert refers_to_files(evil) and refers_to_files(evil[:-1]) and refers_to_files(b"\x0c\x00\x00\x00ORTM")
    # The tag of `graph` with a 33rd bit, which protocol buffers ignore.
    assert refers_to_files(b"\xba\x80\x80\x80\x10\x00")
    (tmp_path / "evil.onnx").write_bytes(evil)
    with pytest.raises(InputError, match="all its weights in one file"):
        Backbone.load(tmp_path / "evil.onnx")
    stored = Backbone(evil, 8, 8, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(InputError, match="all its weights in one file"):
        stored.extractor()


def test_models_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    fixed = small_model(tmp_path / "fixed.onnx", [4, 3, "h", "w"])
    flat = small_model(tmp_path / "two.onnx", ["n", 2, "h", "w"], channels=2)
    good = small_model(tmp_path / "good.onnx", ["n", 3, 6, 6])
    for path, message in [
        (tmp_path / "gone.onnx", "cannot be read"),
        (tmp_path / "broken.onnx", "'broken.onnx' is not an ONNX model"),
        (fixed, "exactly 4 images at a time"),
        (flat, "takes 2 channels"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            choose(path, [])
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="failed on 7x7 images"):
        Backbone.load(good, (7, 7))
    with pytest.raises(InputError, match="units of 8-bit pixels"):
        Backbone.load(good, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
    with pytest.raises(InputError, match="three numbers each"):
        Backbone(b"", 6, 6, (1.0, 2.0), (1.0, 2.0))

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(backbone, "import_module", missing)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        Backbone.lite0().extractor(1)


# --- names ---------------------------------------------------------------------------------------------------------


def test_names_and_default_sizes() -> None:
    grey, large = images(4, 30, 18), images(2, 60, 40)
    colour = np.stack([large] * 3, axis=3)
    assert choose("pixels", grey) == Pixels(30, 18, False)
    assert choose("pixels", colour) == Pixels(32, 32, True)
    assert choose("pixels:14x12:rgb", grey) == Pixels(14, 12, True)
    assert choose("pixels:7x9:grey", colour) == Pixels(7, 9, False)
    assert choose("hog", grey) == Hog(28, 16)
    assert choose("hog:16x12", large) == Hog(16, 12)
    assert choose("lite0", []) == Backbone.lite0()
    assert choose(Hog(8, 8), []) == Hog(8, 8)
    squares = choose("hog2:28x28", images(9))
    assert isinstance(squares, HogSquares)
    assert squares.dimension == 288 + SQUARES
    for name in ("resnet", "hog:rgb", "hog:28x28:rgb", "pixels:14", "hog:8x8x8"):
        with pytest.raises(InputError, match=f"no features '{name}'"):
            choose(name, grey)
    for name in ("pixels:0x4", "hog:4x8", "hog:10x8", "pixels:2000x4"):
        with pytest.raises(InputError, match=r"image size|at least 8x8"):
            choose(name, grey)


# --- the feature map -----------------------------------------------------------------------------------------------


def fitted_to(images: Any, features: str | Path, dimension: int, shrinkage: float = 1.0) -> FeatureMap:
    """A map fitted to images or a table; plans choose their whitening with bounds, which do not matter here."""
    base = choose(features, images, 0)
    return FeatureMap(base, fit_whitening(extract(base, images), dimension, shrinkage, standardise=base.standardise))


@pytest.mark.parametrize("features", ["pixels:7x7", "hog", "hog2:12x12"])
def test_columns_follow_the_convention_and_survive_storing(features: str) -> None:
    clear, fresh = images(40, seed=1), images(300, seed=2)
    fitted = fitted_to(clear, features, dimension=64)
    seen: list[tuple[int, int]] = []
    columns = fitted.transform(fresh, lambda done, total: seen.append((done, total)))
    assert columns.shape == (300, 64)
    assert columns.dtype == np.float64
    assert np.all(columns[:, 63] == 1)
    assert np.abs(columns[:, :63]).max() <= CLIP
    assert seen == [(256, 300), (300, 300)]
    assert np.array_equal(columns, fitted_to(clear, features, dimension=64).transform(fresh))
    batches = list(fitted.batches(fresh))
    assert [name for names, _ in batches for name in names] == [str(i) for i in range(300)]
    assert np.array_equal(np.concatenate([rows for _, rows in batches]), columns)

    arrays, settings = fitted.to_arrays()
    restored = FeatureMap.from_arrays(arrays, json.loads(json.dumps(settings)))
    assert restored.identity == fitted.identity
    assert np.array_equal(restored.transform(fresh), columns)
    assert fitted_to(images(40, seed=3), features, dimension=64).identity != fitted.identity
    assert repr(fitted).endswith("64 columns)")


def test_lite0_map_from_files_arrays_and_tensors(tmp_path: Path) -> None:
    train, _ = demo_cats()
    for i in range(6):
        Image.fromarray(train.images[i]).save(tmp_path / f"{i}.png")
    fitted = fitted_to(train.images[:24], "lite0", dimension=16)
    assert fitted.whitening.features == 1280
    columns = fitted.transform(train.images[:6])
    assert np.array_equal(columns, fitted.transform(tmp_path, threads=2))
    assert np.array_equal(columns, fitted.transform(np.moveaxis(train.images[:6], 3, 1).astype(np.float32) / 255))
    arrays, settings = fitted.to_arrays()
    assert "onnx_model" not in arrays  # shipped with the package
    assert np.array_equal(FeatureMap.from_arrays(arrays, settings).transform(tmp_path), columns)
    settings = {**settings, "base": {**Backbone.lite0().settings(), "sha256": "0" * 64}}
    with pytest.raises(FormatError, match="need another model than the one at hand"):
        FeatureMap.from_arrays(arrays, settings)


def test_a_users_model_is_stored_with_the_map(tmp_path: Path) -> None:
    path = small_model(tmp_path / "mine.onnx", ["n", 3, 6, 6])
    fitted = fitted_to(images(20), path, dimension=4)
    path.unlink()
    arrays, settings = fitted.to_arrays()
    restored = FeatureMap.from_arrays(arrays, settings)
    assert np.array_equal(restored.transform(images(3)), fitted.transform(images(3)))


def test_tables_of_numbers() -> None:
    table = sample(100, 6) * [1e3, 1, 1e-3, 1, 1, 1]
    fitted = fitted_to(table, "table", dimension=8, shrinkage=0.0)
    columns = fitted.transform(table)
    assert np.allclose(columns[:, :6].T @ columns[:, :6] / 100, np.eye(6))
    arrays, settings = fitted.to_arrays()
    assert np.array_equal(FeatureMap.from_arrays(arrays, settings).transform(table), columns)
    table[2, 3] = np.inf
    for unusable in (table, table[:0], table[:, :2], images(3)):
        with pytest.raises(InputError):
            fitted.transform(unusable)


def test_batches_hold_few_pixels() -> None:
    large = np.zeros((1500, 1000), np.uint8)
    source = ImageSource.of([large] * 7)
    sizes = [len(names) for names, _ in extract_batches(Pixels(2, 2), source)]
    assert sizes == [2, 2, 2, 1]
    assert extract(Pixels(2, 2), source).shape == (7, 4)


def test_damaged_stored_maps_are_refused() -> None:
    arrays, settings = fitted_to(images(40), "hog2:12x12", dimension=64).to_arrays()
    mean, matrix = np.asarray(arrays["whitening_mean"], float), np.asarray(arrays["whitening_matrix"], float)
    nan = np.where(np.arange(mean.size) == 1, np.nan, mean)
    base = dict(settings["base"])  # type: ignore[call-overload]
    for change in (
        {"whitening_mean": nan},
        {"whitening_mean": mean[:-1]},
        {"whitening_mean": mean.astype(np.float32)},
        {"whitening_matrix": matrix[:, :-1]},
        {"whitening_matrix": matrix[0]},
        {"whitening_matrix": None},
        {"hog_mean": mean},
        {"hog_projection": mean},
        {"hog_projection": None},
    ):
        damaged = {name: array for name, array in {**arrays, **change}.items() if array is not None}
        with pytest.raises(FormatError):
            FeatureMap.from_arrays(damaged, settings)
    changes: tuple[dict[str, object], ...] = (
        {},
        {"version": 2},
        {"kind": "sift"},
        {"kind": 3},
        {"base": None},
        {"base": {**base, "height": 12.0}},
        {"base": {**base, "height": -4}},
        {"base": {**base, "height": True}},
        {"base": {}},
        {"kind": "pixels"},
        {"kind": "onnx"},
        {"kind": "onnx", "base": {**base, "name": "x", "sha256": "", "mean": [1.0], "deviation": [1.0]}},
        {"kind": "onnx", "base": {**base, "name": "x", "root": True, "sha256": "", "mean": [1.0], "deviation": [1.0]}},
    )
    for changed in changes:
        with pytest.raises(FormatError):
            FeatureMap.from_arrays(arrays, {**settings, **changed} if changed else {})


def test_whitening_must_be_consistent() -> None:
    with pytest.raises(InputError, match="power of two"):
        Whitening(np.zeros(3), np.zeros((3, 6)))
    assert Whitening(np.zeros(3), np.zeros((3, 7))).apply(np.ones((2, 3))).tolist() == [[0.0] * 7 + [1.0]] * 2


def test_importing_features_loads_no_network_runtime() -> None:
    module = importlib.import_module("cipherlens.features.feature_map")
    assert not hasattr(module, "onnxruntime")
    assert not hasattr(backbone, "onnxruntime")


# --- the demonstration's images ------------------------------------------------------------------------------------


def test_demo_images(tmp_path: Path) -> None:
    train, test = demo_cats()
    assert (len(train), len(test)) == (800, 200)
    assert (train.labels.count("cat"), test.labels.count("cat")) == (400, 100)
    both = train.originals + test.originals
    assert {both.count(name) for name in set(both) - {"cat"}} == {55, 56}
    for split in (train, test):
        assert split.images.shape == (len(split), 32, 32, 3)
        assert np.all(np.diff(split.indices) > 0)
        assert all(
            (label == "cat") == (original == "cat")
            for label, original in zip(split.labels, split.originals, strict=True)
        )
    test.write(tmp_path)
    source = ImageSource.of(tmp_path)
    assert source.classes is not None
    assert source.classes.count("other") == 100
    assert np.array_equal(source.read(0), test.images[test.labels.index("cat")])
    assert (files("cipherlens.data") / "demo_cats.png").stat().st_size < 3_000_000  # type: ignore[attr-defined]
