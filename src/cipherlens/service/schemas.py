"""What travels as JSON, checked field by field; anything that is not described here is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cipherlens.learning.chebyshev import MAX_STEPS
from cipherlens.service.paging import CURSOR_DIGITS
from cipherlens.service.settings import PIECE_BYTES

MOST_PIECES = 1 << 16
MOST_FILES = 1 << 10

Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256, 64 hexadecimal digits")]
Cursor = Annotated[str, Field(pattern=f"^[0-9a-f]{{{CURSOR_DIGITS}}}$", description="The `next` of an earlier answer")]
State = Literal["queued", "running", "done", "failed", "cancelled"]


class Message(BaseModel):
    """What every message obeys: exact types, no further fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Portion(Message):
    """A part of a list; `next` is to be asked for as `before` to go on behind it, and null at the end."""

    next: Cursor | None


class Place(Message):
    """Where a list is to begin: at its newest entry, or behind what an earlier answer held."""

    before: Cursor | None = None


class FileFilter(Place):
    """Which files are to be listed: all, or those of these bytes."""

    sha256: Digest | None = None


class NewFile(Message):
    """A file that a client wants to send.

    Attributes:
        header: the file's first 8 bytes and the header that follows them, in base64.
        pieces: SHA-256 of each 4 MiB of the file, the last one being shorter.
    """

    kind: Literal["evaluation_keys", "switching_key", "images"]
    size: Annotated[int, Field(gt=0, le=MOST_PIECES * PIECE_BYTES)]
    sha256: Digest
    header: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
    pieces: Annotated[list[Digest], Field(min_length=1, max_length=MOST_PIECES)]


class Declared(Message):
    """What is still to be sent: indices of pieces. A file that is `ready` needs nothing more."""

    file_id: Id
    state: Literal["uploading", "ready"]
    missing: list[int]


class FileInfo(Message):
    """A file, by what its header says. The `key_id` of a switching key is that of the old key."""

    file_id: Id
    kind: Literal["evaluation_keys", "switching_key", "images", "model", "reply"]
    state: Literal["uploading", "ready"]
    size: int
    sha256: Digest
    parameters_id: Id
    key_id: Id
    task_id: Id | None
    images: int | None
    labelled: bool | None
    created: float


class FileList(Portion):
    """The tenant's files, newest first."""

    files: list[FileInfo]


class NewDataset(Message):
    """Labelled images to train on."""

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_FILES)]


class Addition(Message):
    """One more file for a data set."""

    file_id: Id


class DatasetInfo(Message):
    """A data set, its files in the order in which they were added."""

    dataset_id: Id
    task_id: Id
    key_id: Id
    images: int
    file_ids: list[Id]
    created: float


class DatasetFiles(Message):
    """The files of a data set, all of them, in the order in which they were added."""

    files: list[FileInfo]


class DatasetList(Portion):
    """The tenant's data sets, newest first."""

    datasets: list[DatasetInfo]


class DatasetView(Message):
    """All that the service knows of a data set's images, from the public halves of its files.

    Attributes:
        classes: images of each class number; what the numbers stand for never reaches the service.
        size: bytes of ciphertexts. names: bytes of file names, sealed for the owner.
        first, last: when its files arrived, seconds since 1970.
    """

    dataset_id: Id
    images: int
    classes: list[int]
    size: int
    names: int
    files: int
    first: float
    last: float
    learner: str
    columns: int
    ridge: float
    steps: int
    largest_eigenvalue: float
    ring_dimension: int


class TrainRecipe(Message):
    """Train on a data set as it is now."""

    kind: Literal["train"]
    dataset_id: Id
    keys_file_id: Id


class ClassifyRecipe(Message):
    """Classify encrypted images with an encrypted model."""

    kind: Literal["classify"]
    model_file_id: Id
    query_file_id: Id
    keys_file_id: Id


class SwitchRecipe(Message):
    """Take the files of a data set to the owner's new key: all of them at once, or none.

    However the job ends, the switching key is deleted with it; so are the old files when it is done, except those that
    another data set or an unfinished job needs, and unless they are to be kept.
    """

    kind: Literal["switch"]
    dataset_id: Id
    switching_key_file_id: Id
    keep_old: bool = False


Recipe = Annotated[TrainRecipe | ClassifyRecipe | SwitchRecipe, Field(discriminator="kind")]


class Submitted(Message):
    """The id of a job."""

    job_id: Id


class Problem(Message):
    """Why something was refused or failed."""

    kind: str
    message: str


class Failure(Message):
    """The body of every answer that is no success."""

    error: Problem


class JobInfo(Message):
    """How far a job is. Times in seconds since 1970, `estimate_seconds` until it is done, where that can be told.

    A switch has no result file: the data set itself is under the new key once it is done.
    """

    job_id: Id
    kind: Literal["train", "classify", "switch", "evaluate"]
    state: State
    stage: str
    progress: float
    estimate_seconds: float | None
    result_file_id: Id | None
    error: Problem | None
    created: float
    started: float | None
    finished: float | None


class JobList(Portion):
    """The tenant's jobs, newest first."""

    jobs: list[JobInfo]


class Target(Message):
    """What is to be deleted with everything derived: a file, a data set with its files, or all that is under a key."""

    kind: Literal["file", "data_set", "key"]
    id: Id


class Doomed(Message):
    """One thing that a deletion removes; `size` and `sha256` of files."""

    kind: Literal["evaluation_keys", "switching_key", "images", "model", "reply", "upload", "data_set", "job"]
    id: Id
    sha256: Digest | None
    size: int | None


class DeletionPlan(Message):
    """What would go.

    Attributes:
        unfinished: jobs among the objects that would be cancelled.
        shrunk: data sets that stay and lose files.
        withdrawn: publications that would be withdrawn; trainers' unfinished jobs on them would be cancelled.
        plan_sha256: stands for exactly these objects; the deletion asks for it.
    """

    objects: list[Doomed]
    unfinished: list[Id]
    shrunk: list[Id]
    withdrawn: list[Id]
    size: int
    plan_sha256: Digest


class DeletionOrder(Message):
    """Delete what a plan has shown."""

    kind: Literal["file", "data_set", "key"]
    id: Id
    plan_sha256: Digest


class ReceiptInfo(Message):
    """A deletion, in short; `erased` is null until the last byte is gone."""

    receipt_id: Id
    reason: Literal["request", "retention", "rotation"]
    objects: int
    size: int
    requested: float
    erased: float | None


class ReceiptList(Portion):
    """The tenant's deletions, newest first."""

    receipts: list[ReceiptInfo]


class ReceiptBody(Message):
    """What is signed."""

    format: int
    id: Id
    service: Id
    tenant: Id
    reason: Literal["request", "retention", "rotation"]
    requested: int
    erased: int
    objects: list[Doomed]


class ReceiptAnswer(Message):
    """A receipt and its Ed25519 signature over the line `cipherlens deletion receipt 1` and the canonical JSON."""

    receipt: ReceiptBody
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class IdentityInfo(Message):
    """Which service this is: its Ed25519 public key in PEM form, and 128 bits of the key's SHA-256."""

    service: Id
    public_key: str


class Usage(Message):
    """What a tenant stores, and may store. `stored`: bytes by kind of file; `retention_days` is null without a limit."""

    stored: dict[str, int]
    quota_bytes: int
    unfinished_jobs: int
    quota_jobs: int
    quota_memory: int
    retention_days: float | None


Stage = Literal["training", "evaluating", "evaluated", "failed", "cancelled"]
Learner = Literal["ridge", "fisher", "linear_means"]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Ridge = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
TrainerName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]


class SubmittedRecipe(Message):
    """What a trainer wants trained. `linear_means` has neither steps nor ridge, and the others have both."""

    learner: Learner
    steps: Steps | None = None
    ridge: Ridge | None = None


class PublishedEnvelope(Message):
    """Which recipes are allowed: learners by name, steps and ridge from the smallest to the largest."""

    learners: Annotated[list[Learner], Field(min_length=1, max_length=3)]
    least_steps: Steps
    most_steps: Steps
    least_ridge: Ridge
    most_ridge: Ridge


class NewPublication(Message):
    """Let the named trainers train on a data set as it is now.

    Attributes:
        holdout_file_id: unlabelled images, on which each submission is evaluated.
        envelope: the recipes to allow; without it all that the keys carry, with a ridge around the planned one.
        trainers: the tenants that may get a token for it, by name.
        submissions_each: how many submissions each of them may make, for ever.
    """

    dataset_id: Id
    keys_file_id: Id
    holdout_file_id: Id
    envelope: PublishedEnvelope | None = None
    trainers: Annotated[list[TrainerName], Field(min_length=1, max_length=100)]
    submissions_each: Annotated[int, Field(ge=1, le=100)]


class PublicationInfo(Message):
    """A publication. A trainer is told no trainer's name but its own."""

    publication_id: Id
    task_id: Id
    key_id: Id
    classes: int
    images: int
    holdout_images: int
    envelope: PublishedEnvelope
    trainers: list[str]
    submissions_each: int
    created: float
    withdrawn: float | None


class PublicationList(Portion):
    """Publications, newest first."""

    publications: list[PublicationInfo]


class SubmissionInfo(Message):
    """How far a submission is. Its reply is there for the publication's owner alone."""

    publication_id: Id
    number: int
    trainer: str
    recipe: SubmittedRecipe
    state: Stage
    progress: float
    error: Problem | None
    model_file_id: Id | None
    reply_file_id: Id | None
    score: int | None
    created: float


class SubmissionList(Message):
    """Submissions by their numbers."""

    submissions: list[SubmissionInfo]


class Score(Message):
    """The one number that may come from a decryption: percent of the hold-out that a recomputed reply has right."""

    percent: Annotated[int, Field(ge=0, le=100)]


class ScoreboardRow(Message):
    """A submission as all trainers see it; `score` is null while it is not released."""

    number: int
    trainer: str
    recipe: SubmittedRecipe
    score: int | None


class Scoreboard(Message):
    """All submissions by their numbers."""

    rows: list[ScoreboardRow]


class Health(Message):
    """Whether the service can work, and its version."""

    status: Literal["ok"]
    version: str
