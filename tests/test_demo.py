"""The demonstration, run for real: its figures, what its server opened, and its report."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cipherlens.cli.demo import run_demo
from cipherlens.cli.main import main
from cipherlens.data import demo_cats
from cipherlens.errors import InputError
from cipherlens.report import published, sheet
from cipherlens.report.illustration import byte_test, flip_bit
from cipherlens.report.processes import run, within
from cipherlens.report.results import Answered, Summary
from cipherlens.report.stage import fresh_folders

ROOT = Path(__file__).resolve().parent.parent

FIELDS = {
    "task", "learner", "images", "clear_subsample", "features", "ring_dimension", "levels", "key_switches", "threads",
    "accuracy_encrypted", "accuracy_clear", "accuracy_reference", "agreement", "max_weight_error", "feature_seconds",
    "keygen_seconds", "encrypt_seconds", "train_seconds", "classify_seconds", "clear_seconds", "slowdown",
    "forecast_seconds", "peak_memory_mb", "upload_bytes", "evaluation_key_bytes", "kernel", "accuracy_linear_means",
}  # fmt: skip


class Demo:
    """One real run, shared by the tests."""

    def __init__(self, out: Path, photos: list[Path]) -> None:
        self.console = Console(file=io.StringIO(), width=118)
        self.out = out
        self.summary: Summary = run_demo(out, photos, None, self.console)
        self.page = (out / "report.html").read_text(encoding="utf-8")
        assert isinstance(self.console.file, io.StringIO)
        self.printed = self.console.file.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    _, testing = demo_cats()
    photo = folder / "my [bold] <cat>.png"
    cat = Image.fromarray(testing.images[testing.labels.index("cat")])
    cat.resize((300, 200)).save(photo)
    turned = Image.Exif()
    turned[0x0112] = 6  # held upright, stored lying on its side
    rotated = folder / "rotated.jpg"
    cat.resize((120, 200)).rotate(90, expand=True).save(rotated, exif=turned)
    yield Demo(folder / "out", [photo, rotated])


class TestFigures:
    def test_the_encrypted_run_is_as_good_as_the_clear_one(self, demo: Demo) -> None:
        assert demo.summary["accuracy_encrypted"] >= 0.89
        assert demo.summary["agreement"] >= 0.995
        assert demo.summary["max_weight_error"] < 1e-3
        assert abs(demo.summary["accuracy_clear"] - demo.summary["accuracy_reference"]) < 0.03
        assert demo.summary["accuracy_linear_means"] > 0.8

    def test_costs_are_within_their_limits(self, demo: Demo) -> None:
        assert demo.summary["train_seconds"] <= 15
        assert demo.summary["classify_seconds"] <= 5
        assert demo.summary["evaluation_key_bytes"] <= 150e6
        assert demo.summary["slowdown"] == demo.summary["train_seconds"] / demo.summary["clear_seconds"]
        assert demo.summary["upload_bytes"] == sum(
            (demo.out / "server" / name).stat().st_size for name in ("data.cl", "query.cl")
        )

    def test_summary_is_the_record(self, demo: Demo) -> None:
        record = json.loads((demo.out / "summary.json").read_text())
        assert set(record) == FIELDS
        assert record == demo.summary
        assert (record["images"], record["clear_subsample"], record["learner"]) == (800, 200, "ridge")
        assert record["features"] == "lite0, D = 128"


class TestServer:
    def test_its_folder_holds_no_secret(self, demo: Demo) -> None:
        names = {file.name for file in (demo.out / "server").iterdir()}
        assert names == {
            "evaluation.cl", "data.cl", "query.cl", "model.cl", "reply.cl", "photos.cl", "photos-reply.cl",
        }  # fmt: skip
        secret = (demo.out / "owner" / "keys" / "secret.cl").read_bytes()
        for file in (demo.out / "server").iterdir():
            content = file.read_bytes()
            assert secret[-4096:-3072] not in content
            assert b"test/" not in content and b'"other"' not in content and b".png" not in content[:4096]

    def test_the_files_it_opened_are_listed_and_none_is_secret(self, demo: Demo) -> None:
        opened = re.findall(r"<li><code>(.*?)</code></li>", demo.page)
        assert {"data.cl", "query.cl", "evaluation.cl", "model.cl"} <= set(opened)
        assert len(opened) > 100  # its own code too, so the hook did see everything
        owned = str((demo.out / "owner").resolve())
        assert not [name for name in opened if "secret.cl" in name or "task.cl" in name or name.startswith(owned)]
        assert "none of them secret" in demo.page
        assert "none of them secret" in " ".join(demo.printed.split())
        assert "nothing of the owner&#x27;s half" in demo.page

    def test_every_run_wrote_the_same_bytes(self, demo: Demo) -> None:
        assert "every run wrote the same bytes" in demo.page


class TestReport:
    def test_is_whole_and_loads_nothing(self, demo: Demo) -> None:
        parser = Balanced()
        parser.feed(demo.page)
        assert parser.open == []
        assert parser.loaded and all(source.startswith(("data:image/png;base64,", "#")) for source in parser.loaded)
        assert "<script" not in demo.page and "@import" not in demo.page

    def test_shows_every_test_image_and_marks_the_wrong_ones(self, demo: Demo) -> None:
        wrong = round((1 - demo.summary["accuracy_encrypted"]) * 200)
        assert demo.page.count("<figcaption>") == 200
        assert demo.page.count("<figure class=wrong") == wrong
        assert f"{wrong} of 200" in demo.page

    def test_shows_what_the_server_saw(self, demo: Demo) -> None:
        dump = re.findall(r"<i>([0-9a-f]{8})</i>  ((?:[0-9a-f]{2} +){16})", demo.page)
        assert len(dump) == 24
        content = (demo.out / "server" / "query.cl").read_bytes()
        for place, numbers in dump:
            assert content[int(place, 16) :][:16] == bytes.fromhex(numbers)

    def test_ciphertext_bytes_tell_nothing(self, demo: Demo) -> None:
        for target, clear_at_least in (("cat or not", 55), ("mean colour bright or dark", 90)):
            row = re.search(rf"<tr><td>{target}</td>(.*?)</tr>", demo.page)
            assert row is not None
            encrypted, _, clear = (float(n) for n in re.findall(r">([\d.]+) %", row[1])[:3])
            assert 43 <= encrypted <= 57  # more than four standard deviations around a coin's share
            assert ("at chance" in row[1]) == (abs(encrypted - 50) <= 4.7)
            assert "50 % ± 4.7 %" in row[1]
            assert clear >= clear_at_least
        assert "An illustration, not a proof" in demo.page

    def test_shows_both_refusals(self, demo: Demo) -> None:
        said = re.findall(r"<pre class=told>[^<]*<b>(.*?)</b></pre>", demo.page)
        assert len(said) == 2
        assert "altered" in said[0] and "another key" in said[1]
        assert not any("\n" in sentence or "Traceback" in sentence for sentence in said)

    def test_names_published_figures_as_such(self, demo: Demo) -> None:
        assert "Blue figures are published ones" in demo.page
        assert demo.page.count("<svg") == 1

    def test_prints_the_same(self, demo: Demo) -> None:
        for words in ("Who held what", "What came out", "forecast", "slowdown", "Refused", "scikit-learn"):
            assert words in demo.printed

    def test_answers_the_photo(self, demo: Demo) -> None:
        assert "my [bold] <cat>.png" in demo.printed
        assert "my [bold] &lt;cat&gt;.png" in demo.page
        lines = (demo.out / "owner" / "photos.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines[1:]] == ["0000.png", "0001.png"]

    def test_a_photo_held_upright_is_encrypted_upright(self, demo: Demo) -> None:
        assert "rotated.jpg" in demo.printed
        _, testing = demo_cats()
        upright = testing.images[testing.labels.index("cat")].mean(axis=2)
        with Image.open(demo.out / "owner" / "photos" / "0001.png") as image:
            assert image.size == (120, 200)
            seen = np.asarray(image.convert("L").resize((32, 32)), float)
        likeness = [np.corrcoef(np.rot90(upright, k).ravel(), seen.ravel())[0, 1] for k in range(4)]
        assert int(np.argmax(likeness)) == 0 and likeness[0] > 0.95

    def test_random_splits_stand_beside_the_one_that_was_encrypted(self, demo: Demo) -> None:
        assert "10 splits" in demo.printed
        found = re.search(
            r"the solve gains ([+-][\d.]+) ± ([\d.]+) points over linear means", " ".join(demo.page.split())
        )
        assert found is not None
        assert 0 < float(found[2]) < 1 and float(found[1]) > float(found[2])

    def test_who_held_what(self, demo: Demo) -> None:
        rows = re.findall(
            r'<tr><td>([^<]*)</td><td class="number">[^<]*</td><td class="mark">(.?)</td><td class="mark">(.)</td>',
            demo.page,
        )
        held = {name.split(":")[0]: (owner, server) for name, owner, server in rows}
        assert held["secret.cl"] == held["task.cl"] == held["predictions.csv"] == ("●", "–")
        assert held["evaluation.cl"] == held["data.cl"] == held["class numbers of the training images"] == ("●", "●")
        assert held["1,000 images and their names"] == held["class numbers of the test images"] == ("●", "–")

    def test_contact_sheet_is_a_picture(self, demo: Demo) -> None:
        with Image.open(demo.out / "contact-sheet.png") as image:
            assert image.format == "PNG" and image.width > 1000


class TestBadInput:
    def test_a_broken_photo_is_named_before_anything_runs(self, tmp_path: Path) -> None:
        photo = tmp_path / "broken.jpg"
        photo.write_bytes(b"\xff\xd8\xff\xe0 nothing")
        with pytest.raises(InputError, match=r"broken\.jpg"):
            run_demo(tmp_path / "out", [photo], 1, Console(file=io.StringIO()))
        assert not (tmp_path / "out").exists()

    def test_every_file_behind_the_option_is_a_photo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[list[Path]] = []

        def remember(out: Path, photos: list[Path], threads: int | None, console: Console) -> dict[str, object]:
            told.append(photos)
            return {}

        monkeypatch.setattr("cipherlens.cli.demo.run_demo", remember)
        for arguments in (["--photo", "a.jpg", "b.png"], ["--photo", "a.jpg", "--photo", "b.png", "--json"]):
            assert main(["demo", "--out", str(tmp_path), *arguments]) == 0
        assert told == [[Path("a.jpg"), Path("b.png")]] * 2

    def test_folders_of_others_are_never_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "owner").mkdir()
        (tmp_path / "owner" / "precious").touch()
        with pytest.raises(InputError, match="not from a demonstration"):
            fresh_folders(tmp_path)
        assert (tmp_path / "owner" / "precious").exists()

    def test_a_demonstrations_own_folders_are(self, tmp_path: Path) -> None:
        fresh_folders(tmp_path)
        (tmp_path / "owner" / "old").touch()
        assert not list((fresh_folders(tmp_path) / "owner").iterdir())


class TestWatching:
    def test_opened_files_are_recorded_also_of_a_failing_program(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "culprit.py").write_text("import sys\nopen('secret.cl').read()\nsys.exit('caught')\n")
        (tmp_path / "secret.cl").touch()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr("cipherlens.report.processes.PROGRAM", "culprit")
        done = run(["train"], tmp_path, tmp_path / "record.json")
        assert done.refusal == "caught"
        assert done.watch is not None
        assert str((tmp_path / "secret.cl").resolve()) in done.watch.opened
        assert not (tmp_path / "record.json").exists()
        if sys.platform == "linux":
            assert done.watch.peak_bytes is not None and done.watch.peak_bytes > 1e6

    def test_within_is_not_fooled_by_prefixes(self, tmp_path: Path) -> None:
        assert within(str((tmp_path / "owner" / "x").resolve()), tmp_path / "owner")
        assert not within(str((tmp_path / "owner2" / "x").resolve()), tmp_path / "owner")


class TestParts:
    def test_published_figures_are_those_of_the_benchmarks(self) -> None:
        ours = (ROOT / "src/cipherlens/report/published.json").read_text()
        assert json.loads(ours) == json.loads((ROOT / "benchmarks/published.json").read_text())

    def test_published_figures_without_a_number_are_left_out(self) -> None:
        names = {point.system for point in published.published("classify_seconds_per_image")}
        assert "Cheetah" in names and "HELR (paper)" not in names
        bounds = {p.system: p.bound for p in published.published("classify_seconds_per_image")}
        assert (bounds["TenSEAL"], bounds["Concrete ML, VGG, 24 cores"], bounds["Orion"]) == ("upper", "lower", "")

    def test_the_plot_repeats_itself(self) -> None:
        assert published.draw(1.0, 0.01, 2030) == published.draw(1.0, 0.01, 2030)

    def test_the_byte_test_finds_what_is_there(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.random(300) < 0.5
        telling = rng.integers(0, 256, (300, 50), np.uint8)
        telling[:, 7] = np.where(truth, 250, 5)
        told = byte_test("x", rng.integers(0, 256, (300, 50), np.uint8), telling, truth)
        assert told.clear == 1.0
        assert told.at_chance
        assert not byte_test("x", telling, telling, truth).at_chance

    def test_one_bit_is_flipped(self) -> None:
        altered, place = flip_bit(bytes(9))
        assert altered == bytes(4) + b"\x01" + bytes(4) and place == 4

    def test_mistakes_are_those_whose_truth_is_known(self) -> None:
        pixels = np.zeros((2, 3), np.uint8)
        assert Answered("a", pixels, "cat", 1.0, "other").wrong
        assert not Answered("a", pixels, "cat", 1.0).wrong
        assert sheet.enlarged(pixels, 8).size == (8, 8)


class Balanced(HTMLParser):
    """Collects what a page loads, and the elements that were never closed."""

    EMPTY = frozenset(("meta", "img", "br", "link", "path", "use"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag
