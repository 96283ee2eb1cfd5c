"""`cipherlens train`, `classify` and `recompute`: the server's side. No secret key is opened, or can be."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipherlens.cli.options import (
    ClusterName,
    EvaluationKeysFile,
    Json,
    Threads,
    check_output,
    command,
    different_files,
)
from cipherlens.cli.output import Bar, Output, peak_memory, plural, size
from cipherlens.cli.remote import (
    InsecureHttp,
    Remote,
    ServerUrl,
    StoredSet,
    TokenFile,
    classify_remotely,
    one_source,
    train_remotely,
)
from cipherlens.cli.transfers import Save, result_file
from cipherlens.errors import InputError

if TYPE_CHECKING:
    from cipherlens.learning.encrypted_images import EncryptedImages
    from cipherlens.learning.recipes import Recipe
    from cipherlens.learning.results import Reply, TrainedModel
    from cipherlens.scheme.engine import Engine
    from cipherlens.scheme.keys import EvaluationKeys
    from cipherlens.server.shards import Cluster

_data = typer.Option(
    "--data", show_default=False, help="Encrypted images; repeat it for those of several contributors."
)
Data = Annotated[list[Path], _data]
OptionalData = Annotated[list[Path] | None, _data]


@command
def train(
    evaluation_keys: EvaluationKeysFile,
    out: Annotated[Path, typer.Option("--out", help="The encrypted model to write.")],
    data: OptionalData = None,
    server: ServerUrl = None,
    data_set: StoredSet = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    cluster: ClusterName = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train on encrypted images; the model is encrypted too.

    Runs on a machine that has no secret key and learns nothing but the number of images and their class numbers.
    The same inputs give the same bytes on every machine and with any number of threads. With --server, that machine
    is one that runs `cipherlens serve`: what it lacks is uploaded, and the same command again goes on with the same job.
    Of a --data-set exactly the files are trained on that it has at this moment.
    """
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    _check_place(server, cluster)
    one_source(data, data_set)
    remote = Remote.of(server, token_file, insecure_http, threads)
    if remote is not None:
        train_remotely(remote, data, data_set, evaluation_keys, out, output)
        return
    if not data:
        raise InputError("--data-set is on a server; give its address with --server")
    check_output(out, [*data, evaluation_keys], Kind.MODEL)
    with output.progress("reading") as bar:
        model, engine = train_files(data, evaluation_keys, threads, bar, cluster=cluster)
    model.save(out)
    images, written = int(model.counts.sum()), out.stat().st_size
    output.facts([(str(out), f"{model.task.spec.kind} on {plural(images, 'image')}, {size(written)}, encrypted")])
    _finish(output, "train", out, engine, model, images, threads)


@command
def classify(
    model: Annotated[Path, typer.Option("--model", help="The encrypted model that `train` wrote.")],
    data: Annotated[Path, typer.Option("--data", help="The encrypted images to classify.")],
    evaluation_keys: EvaluationKeysFile,
    out: Annotated[Path, typer.Option("--out", help="The encrypted reply to write.")],
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    cluster: ClusterName = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Classify encrypted images with an encrypted model; the reply is encrypted too.

    With --server, a machine that runs `cipherlens serve` does it, with a model that was trained there.
    """
    from cipherlens.server import classify_to_file
    from cipherlens.wire.container import Kind

    output = Output(as_json)
    _check_place(server, cluster)
    remote = Remote.of(server, token_file, insecure_http, threads)
    if remote is not None:
        classify_remotely(remote, model, data, evaluation_keys, out, output)
        return
    check_output(out, [model, data, evaluation_keys], Kind.REPLY)
    with output.progress("reading") as bar:
        trained, images, engine, keys = _to_classify(model, data, evaluation_keys, threads, bar)
        with _opened(cluster, bar) as machines:
            classify_to_file(
                out, trained, images, keys, threads=threads, progress=bar.share, engine=engine, cluster=machines
            )
    written = out.stat().st_size
    output.facts([(str(out), f"scores of {plural(images.images, 'image')}, {size(written)}, encrypted")])
    _finish(output, "classify", out, engine, trained, images.images, threads)


@command
def recompute(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="REPLY", help="A reply or a model; with --server its id, or its job's.", show_default=False
        ),
    ],
    data: Data,
    evaluation_keys: EvaluationKeysFile,
    model: Annotated[
        Path | None, typer.Option("--model", show_default=False, help="The model that a reply was computed with.")
    ] = None,
    server: ServerUrl = None,
    token_file: TokenFile = None,
    insecure_http: InsecureHttp = False,
    save: Save = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Compute a reply or a model again from its stated inputs, and compare every byte. Exit status 1 if any differs.

    Run it on a second machine, which needs no secret key: equal bytes show that the server computed what it was
    asked to from these inputs. Give it data and evaluation keys as you sent them, not as the server gives them back,
    and recompute the model as well as the reply: a forged input makes a reply that gives away the secret key. With
    --server, keep what was compared with --save, and decrypt that file: another download may hold other bytes.
    """
    from cipherlens.learning.encrypted_images import EncryptedImages
    from cipherlens.learning.recipes import Recipe
    from cipherlens.server.comparing import compare

    output = Output(as_json)
    remote = Remote.of(server, token_file, insecure_http)
    with result_file(remote, result, None, save, output) as path:
        claimed = _claimed(path, model, data)
        own = EncryptedImages.load(data[0], verify=False).task
        recipe = Recipe.of(claimed.task if claimed.task.origin == own.origin else own)
        with output.progress("reading") as bar:
            if model is None:
                again: TrainedModel | Reply = train_files(data, evaluation_keys, threads, bar, recipe=recipe)[0]
            else:
                again = _classify_again(model, data[0], evaluation_keys, threads, bar)
        verdict = compare(path, claimed, again)
    if verdict.identical:
        output.say(f"identical: {result} is what its inputs give, byte for byte")
        if claimed.task.id != own.id:
            output.say(f"Its recipe is not the one that was planned, but {recipe}: is it the one you asked for?")
        if model is not None:
            output.say(f"Nothing is said of {model} itself: unless you computed it, recompute it from its data too.")
    else:
        output.say(
            f"DIFFERENT: {result} is not what these inputs give ({', '.join(verdict.differing)}); do not decrypt it"
        )
    output.finish(
        {
            "command": "recompute",
            "file": str(result),
            "identical": verdict.identical,
            "recipe": str(recipe),
            "differing": list(verdict.differing),
            "sha256": verdict.sha256,
            "recomputed_sha256": verdict.recomputed_sha256,
        }
    )
    return 0 if verdict.identical else 1


def _claimed(result: Path, model: Path | None, data: list[Path]) -> Reply | TrainedModel:
    """Load a result, and check that the stated inputs are of the kind that gives such a one.

    Raises:
        FormatError: no reply and no model.
        InputError: inputs that give no such result.
    """
    from cipherlens.learning.results import Reply, TrainedModel
    from cipherlens.wire.container import Kind, Reader

    with Reader.open(result, (Kind.REPLY, Kind.MODEL), verify=False) as reader:
        kind = reader.kind
    if kind is Kind.MODEL:
        if model is not None:
            raise InputError(f"{result} is a model, which is computed from --data alone; leave --model away")
        return TrainedModel.load(result)
    if model is None or len(data) != 1:
        raise InputError(f"{result} is a reply, which is computed from --model and one --data; give both")
    return Reply.load(result)


def train_files(
    data: list[Path],
    evaluation_keys: Path,
    threads: int | None,
    bar: Bar,
    *,
    cluster: str | None = None,
    recipe: Recipe | None = None,
) -> tuple[TrainedModel, Engine]:
    """Train on files of encrypted images. recipe: another than their task's own. Raises what `cipherlens.server.train`,
    `open_cluster` and reading raise.
    """
    from cipherlens.learning.encrypted_images import EncryptedImages, same_task
    from cipherlens.scheme.engine import Engine
    from cipherlens.server import train as train_model
    from cipherlens.wire.keys import read_evaluation_keys

    sets: list[EncryptedImages] = [EncryptedImages.load(path) for path in different_files(data)]
    same_task((str(path), s.task, s.key_id) for path, s in zip(data, sets, strict=True))
    for images in sets:
        images.counts()  # refuses unlabelled images before the keys are read
    task = sets[0].task if recipe is None else recipe.applied(sets[0].task)
    engine = Engine(task.parameters)
    bar.stage("reading keys")
    keys = read_evaluation_keys(evaluation_keys, engine, task.circuit.key_requests(), threads=threads)
    with _opened(cluster, bar) as machines:
        model = train_model(
            sets, keys, threads=threads, progress=bar.share, engine=engine, cluster=machines, recipe=recipe
        )
    return model, engine


def _classify_again(model: Path, data: Path, evaluation_keys: Path, threads: int | None, bar: Bar) -> Reply:
    """A reply to compare with, in memory. Raises what `cipherlens.server.classify` and reading raise."""
    from cipherlens.server import classify as classify_images

    trained, images, engine, keys = _to_classify(model, data, evaluation_keys, threads, bar)
    return classify_images(trained, images, keys, threads=threads, progress=bar.share, engine=engine)


def _to_classify(
    model: Path, data: Path, evaluation_keys: Path, threads: int | None, bar: Bar
) -> tuple[TrainedModel, EncryptedImages, Engine, EvaluationKeys]:
    """What `cipherlens.server.classify` takes, from files. Raises KeyMismatch and what reading raises."""
    from cipherlens.learning.encrypted_images import EncryptedImages, same_task
    from cipherlens.learning.results import TrainedModel
    from cipherlens.scheme.engine import Engine
    from cipherlens.wire.keys import read_evaluation_keys

    trained, images = TrainedModel.load(model), EncryptedImages.load(data)
    same_task([(str(model), trained.task, trained.key_id), (str(data), images.task, images.key_id)], any_recipe=True)
    engine = Engine(trained.task.parameters)
    bar.stage("reading keys")
    keys = read_evaluation_keys(evaluation_keys, engine, trained.task.circuit.score_requests(), threads=threads)
    return trained, images, engine, keys


def _check_place(server: str | None, cluster: str | None) -> None:
    """Raises InputError for a name that is no cluster's, and for two places to work at."""
    from cipherlens.server.cluster import check_cluster

    if cluster is None:
        return
    if server is not None:
        raise InputError("--server decides itself where it computes; leave --server or --cluster away")
    check_cluster(cluster)


def _opened(cluster: str | None, bar: Bar) -> AbstractContextManager[Cluster | None]:
    from cipherlens.server import open_cluster

    if cluster is None:
        return nullcontext()
    bar.stage("joining the cluster")
    return open_cluster(cluster)


def _finish(
    output: Output, name: str, out: Path, engine: Engine, model: TrainedModel, images: int, threads: int | None
) -> None:
    """What both commands say of their run."""
    from cipherlens.scheme.engine import usable_cores

    used, memory = threads or usable_cores(), peak_memory()
    peak = "" if memory is None else f", {size(memory)} of memory at most"
    output.facts(
        [("done", f"in {output.seconds:.1f} s with {engine.kernel} kernels on {plural(used, 'thread')}{peak}")]
    )
    output.finish(
        {
            "command": name,
            "out": str(out),
            "task_id": model.task.id,
            "key_id": model.key_id,
            "images": images,
            "bytes": out.stat().st_size,
            "kernel": engine.kernel,
            "threads": used,
        }
    )
