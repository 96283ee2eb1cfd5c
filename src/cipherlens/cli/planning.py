"""`cipherlens plan`: from images and labels to a task, and what it will cost."""

from __future__ import annotations

import math
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import Json, SkipBroken, Threads, check_output, command
from cipherlens.cli.output import Output, plural, size
from cipherlens.cli.remote import InsecureHttp, Remote, ServerUrl, TokenFile
from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.client.stored import Usage
    from cipherlens.features.base import BaseFeatures
    from cipherlens.planning.cost import Cost
    from cipherlens.planning.task import Task


class Learner(StrEnum):
    """The learners by name."""

    ridge = "ridge"
    fisher = "fisher"
    linear_means = "linear_means"


FEATURES_HELP = (
    "lite0, hog, hog2, pixels (with a size: pixels:14x14, pixels:32x32:rgb, hog:28x28), an ONNX model's path, or table."
)


@command
def plan(
    images: Annotated[
        Path, typer.Option("--images", help="A folder of images; with --features table a .npy or CSV file of numbers.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The task file to write; task.public.cl appears beside task.cl.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", show_default=False, help="A CSV file (file,label); by default one folder a class."),
    ] = None,
    learner: Annotated[Learner, typer.Option("--learner", help="What to train.")] = Learner.ridge,
    features: Annotated[str, typer.Option("--features", help=FEATURES_HELP)] = "lite0",
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean",
            show_default=False,
            help="An ONNX model's mean of 8-bit pixels: one number a channel, 123.7,116.3,103.5.",
        ),
    ] = None,
    deviation: Annotated[
        str | None, typer.Option("--deviation", show_default=False, help="What it divides by after that, likewise.")
    ] = None,
    dimension: Annotated[
        int | None, typer.Option("--dimension", show_default=False, help="Columns D of an image: a power of two.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, show_default=False, help="Steps of the solve; 5 by default.")
    ] = None,
    ridge: Annotated[
        float | None, typer.Option("--ridge", show_default=False, help="The ridge added to the scatter matrix.")
    ] = None,
    shrinkage: Annotated[
        float | None, typer.Option("--shrinkage", show_default=False, help="Shrinkage of the whitening.")
    ] = None,
    clear: Annotated[
        int | None,
        typer.Option(
            "--clear", show_default=False, help="Images that serve for statistics, on this machine; at most a quarter."
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option("--queries", min=1, show_default=False, help="Images to forecast the classifying of."),
    ] = None,
    most_images: Annotated[
        int | None,
        typer.Option(
            "--most-images",
            min=1,
            show_default=False,
            help="Training images there will ever be, where those here are only the first of millions.",
        ),
    ] = None,
    ring: Annotated[
        int | None, typer.Option("--ring", show_default=False, help="Ring dimension instead of the smallest that fits.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random choice; nothing secret.")] = 0,
    skip_broken: SkipBroken = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an existing task; its keys and data become useless.")
    ] = False,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Plan a task: parameters, security and cost, before anything is paid.

    Nothing leaves this machine. The task file (task.cl) holds the feature map, which is made of statistics of your
    images: it is for you and your contributors. The server needs neither it nor task.public.cl, which travels within
    the encrypted images. With --server, the server is asked for your quota, and told nothing of the task.
    """
    from cipherlens.cli.sources import left_out, open_images, open_labels
    from cipherlens.learning.bounds import RIDGE, SHRINKAGE
    from cipherlens.planning.plan import STEPS
    from cipherlens.planning.plan import plan as plan_task
    from cipherlens.planning.task import public_path
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    for path, kind in ((out, Kind.TASK), (public_path(out), Kind.PUBLIC_TASK)):
        check_output(path, [images, labels, token_file], kind)
        if path.exists() and not replace:
            raise InputError(
                f"{path} exists, and keys and data may depend on it; choose another name, or give --replace"
            )
    usage = None
    if (remote := Remote.of(server, token_file, insecure_http)) is not None:
        # Before planning: a wrong address or token costs no minutes, and the server sees no time that planning took.
        with remote.connect() as connection:
            usage = connection.usage()
    source = open_images(images, labels, output, table=features == "table", skip_broken=skip_broken)
    with output.progress("planning") as bar:
        task = plan_task(
            source,
            open_labels(source, labels),
            learner=learner.value,
            features=_base(features, mean, deviation),
            dimension=dimension,
            ridge=RIDGE if ridge is None else ridge,
            steps=STEPS if steps is None else steps,
            shrinkage=SHRINKAGE if shrinkage is None else shrinkage,
            clear=clear,
            queries=queries,
            most_images=most_images,
            ring_dimension=ring,
            seed=seed,
            threads=threads,
            progress=bar.count,
        )
    public = task.save(out)
    _show(output, task, [("task", f"{out} (private: for you and contributors)"), ("public half", str(public))])
    fits = None if task.cost is None or usage is None else _fits(output, task.cost, usage)
    cost = {} if task.cost is None else asdict(task.cost)
    spec = asdict(task.public.spec)
    output.finish(
        {
            "command": "plan",
            "out": str(out),
            "public": str(public),
            "task_id": task.public.id,
            "learner": spec,
            "features": task.feature_map.base.kind,
            "classes": list(task.notes.classes),
            "cost": cost,
            "quota": fits,
            **left_out(source),
        }
    )


def _base(features: str, mean: str | None, deviation: str | None) -> str | BaseFeatures:
    """The features by name, or an ONNX model with numbers of the user's. Raises InputError."""
    from cipherlens.features.backbone import Backbone

    if mean is None and deviation is None:
        return features
    if not features.lower().endswith(".onnx"):
        raise InputError(f"--mean and --deviation belong to an ONNX model's path, not to the features '{features}'")
    return Backbone.load(features, mean=_numbers("--mean", mean), deviation=_numbers("--deviation", deviation))


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"{option} takes numbers with commas between them, one a channel, not '{text}'") from None


def _show(output: Output, task: Task, files: list[tuple[str, str]]) -> None:
    spec, p, cost = task.public.spec, task.public.parameters, task.cost
    shown = ", ".join(task.notes.classes[:5]) + (", …" if len(task.notes.classes) > 5 else "")
    rows = [
        *files,
        ("learner", f"{spec.kind}, {spec.dimension} columns of {task.feature_map.base.kind} features"),
        ("classes", f"{spec.classes}: {shown}"),
        ("ring", f"2^{p.ring_dimension.bit_length() - 1}, {p.top_level} levels"),
        ("security", f"128 bits, log2(QP) = {p.modulus_bits:.1f}, {p.security_margin_bits:.1f} bits below the limit"),
    ]
    if cost is not None:
        rows += [
            ("train", f"{cost.train_seconds:.1f} s for {plural(cost.images, 'image')} on a machine like this"),
            ("classify", f"{cost.classify_seconds:.1f} s for {plural(cost.queries, 'image')}"),
            ("memory", f"{size(cost.memory_bytes)} on the server"),
            ("keys", f"{size(cost.evaluation_key_bytes)} of evaluation keys, uploaded once"),
            ("upload", f"{size(cost.image_bytes)} an image; {size(cost.reply_bytes)} come back for each"),
        ]
    output.facts(rows)


def _fits(output: Output, cost: Cost, usage: Usage) -> dict[str, object]:
    """Say whether a server has room for a task: all that is uploaded and every reply, and a job's memory."""
    images = math.ceil((cost.images + cost.queries) * cost.image_bytes)
    needed = images + cost.evaluation_key_bytes + math.ceil(cost.queries * cost.reply_bytes)
    free = max(0, usage.quota - usage.stored)
    room, memory = needed <= free, cost.memory_bytes <= usage.quota_memory
    jobs = usage.unfinished_jobs < usage.quota_jobs
    output.facts(
        [
            ("server: bytes", f"{_verdict(room)}: {size(needed)} with keys and replies, {size(free)} are free"),
            (
                "server: memory",
                f"{_verdict(memory)}: {size(cost.memory_bytes)} of {size(usage.quota_memory)} for a job",
            ),
            ("server: jobs", f"{_verdict(jobs)}: {usage.unfinished_jobs} of {usage.quota_jobs} at work or queued"),
        ]
    )
    return {
        "fits": room and memory and jobs,
        "image_bytes": images, "evaluation_key_bytes": cost.evaluation_key_bytes, "needed_bytes": needed,
        "free_bytes": free, "quota_bytes": usage.quota,
        "memory_bytes": cost.memory_bytes, "quota_memory": usage.quota_memory,
        "unfinished_jobs": usage.unfinished_jobs, "quota_jobs": usage.quota_jobs,
    }  # fmt: skip


def _verdict(fits: bool) -> str:
    return "fits" if fits else "DOES NOT FIT"
