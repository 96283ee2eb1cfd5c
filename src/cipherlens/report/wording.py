"""The sentences and table rows that the terminal and the page share."""

from __future__ import annotations

from cipherlens.report.illustration import ByteTest
from cipherlens.report.results import Demonstration, ServerWatch
from cipherlens.report.splits import SPLITS


def percent(share: float) -> str:
    """0.895 -> 89.5 %."""
    return f"{share * 100:.1f} %"


def megabytes(count: float) -> str:
    """Bytes for people: 4.1 MB, 12 kB."""
    if count < 1e3:
        return f"{count:.0f} bytes"
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def seconds(value: float) -> str:
    """Seconds for people: 1.8 s, 3.1 ms."""
    return f"{value * 1e3:.1f} ms" if value < 0.1 else f"{value:.1f} s"


def watch_sentence(watch: ServerWatch) -> str:
    """What the audit hook found."""
    found = "none of them secret" if not watch.forbidden else f"FORBIDDEN: {', '.join(watch.forbidden)}"
    loaded = "nothing of the owner's half of the library" if not watch.modules else ", ".join(watch.modules)
    return (
        f"The server's processes opened {len(watch.opened)} files of their folder and {len(watch.outside)} of Python, "
        f"its libraries and the system: {found}. They loaded {loaded}."
    )


def accuracy_rows(demo: Demonstration) -> list[tuple[str, str, str, str]]:
    """Learner, accuracy on the test images, mean over random splits, remark."""
    s, n, splits = demo.summary, len(demo.answers), demo.splits
    return [
        (
            "trained and applied encrypted", percent(s["accuracy_encrypted"]), "",
            f"the same answer as in the clear for {round(s['agreement'] * n)} of {n}; "
            f"largest difference of a weight {s['max_weight_error']:.1e}",
        ),
        ("the same algorithm in the clear", percent(s["accuracy_clear"]), percent(splits.clear), "numpy, float64"),
        (
            "exact ridge in the clear", percent(s["accuracy_reference"]), percent(splits.reference),
            "scikit-learn, on the same features",
        ),
        (
            "linear means in the clear", percent(s["accuracy_linear_means"]), percent(splits.linear_means),
            "no solve: what the class means alone give",
        ),
    ]  # fmt: skip


def accuracy_sentence(demo: Demonstration) -> str:
    """How far the test images tell the rows apart, and what many splits say."""
    n, share, splits = len(demo.answers), demo.summary["accuracy_encrypted"], demo.splits
    error = 100 * (share * (1 - share) / n) ** 0.5
    return (
        f"Each share of {n} images is uncertain by ± {error:.1f} points (one standard error of {n} images), more than lies "
        f"between the rows. So the clear ones are also given as means over {SPLITS} random splits of all "
        f"{demo.summary['images'] + n:,} images, whitened anew each time: there the solve gains {100 * splits.gain:+.1f} "
        f"± {100 * splits.error:.1f} points over linear means (standard error over the splits, which share images)."
    )


def chance(test: ByteTest) -> str:
    """What guessing gives."""
    return f"50 % ± {100 * test.band:.1f} %"


def verdict(test: ByteTest) -> str:
    """Whether the bytes told anything."""
    return "at chance" if test.at_chance else "outside the band"


def cost_rows(demo: Demonstration) -> list[tuple[str, str, str]]:
    """What, forecast by `plan` before anything was paid, measured."""
    s, f, n = demo.summary, demo.forecast, len(demo.answers)
    per_image = s["upload_bytes"] / (s["images"] + n)
    return [
        (f"server: train on {s['images']} images", seconds(f.train_seconds), seconds(s["train_seconds"])),
        (f"server: classify {n} images", seconds(f.classify_seconds), seconds(s["classify_seconds"])),
        ("server: peak memory", megabytes(f.memory_bytes), megabytes(s["peak_memory_mb"] * 1e6)),
        ("upload once: evaluation keys", megabytes(f.evaluation_key_bytes), megabytes(s["evaluation_key_bytes"])),
        ("upload: each image", megabytes(f.image_bytes), megabytes(per_image)),
        ("owner: make keys", "", seconds(s["keygen_seconds"])),
        ("owner: features of all images", "", seconds(s["feature_seconds"])),
        ("owner: encrypt all images", "", seconds(s["encrypt_seconds"])),
        ("the same training in the clear, scikit-learn", "", seconds(s["clear_seconds"])),
        ("slowdown of training against it", "", f"{s['slowdown']:,.0f} ×"),
    ]
