"""An owner's keys: secret, public and evaluation keys of one task, and the folder they lie in."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cipherlens.errors import FormatError, InputError, KeyMismatch
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.recipes import Recipe
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.learning.task import PublicTask
from cipherlens.learning.twin import ClearModel
from cipherlens.owner.decryption import Answers, decrypt_reply, open_model
from cipherlens.owner.encryption import Encryptor, Progress, PublicEncryptor, SecretEncryptor, encrypt_images, prepare
from cipherlens.owner.sealed import new_sealing_keys, unwrap, wrap
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.task import PrivateNotes, Task
from cipherlens.scheme.engine import Engine, usable_cores
from cipherlens.scheme.keys import EvaluationKeys, KeyChange, PublicKey
from cipherlens.scheme.notebook import NotebookRepr
from cipherlens.scheme.parameters import require_secure
from cipherlens.wire.container import (
    Kind,
    Reader,
    Writer,
    canonical_json,
    header_bool,
    header_hex,
    parse_json_object,
)
from cipherlens.wire.key_change import write_key_change
from cipherlens.wire.keys import read_evaluation_keys, read_public_key, write_evaluation_keys, write_public_key

SECRET, PUBLIC, EVALUATION = "secret.cl", "public.cl", "evaluation.cl"
SWITCHING = "switching.cl"

SEALING_BYTES = 32


@dataclass(frozen=True, eq=False)
class ContributorKeys(NotebookRepr):
    """What a contributor has: the public key and the task. Encrypts, and can read nothing.

    Attributes:
        task: the task, with its feature map.
        public: the owner's public key.
        sealing_key: the owner's X25519 public key, for names.

    Raises:
        SecurityError: the task's ring is not inside the security table.
    """

    task: Task
    public: PublicKey
    sealing_key: bytes

    def __post_init__(self) -> None:
        require_secure(self.task.public.parameters)

    def encrypt(
        self, images: Any, labels: Any = None, *, labelled: bool | None = None, threads: int | None = None,
        progress: Progress | None = None,
    ) -> EncryptedImages:  # fmt: skip
        """As `Keys.encrypt`, twice the size, for the owner of the public key alone to read."""
        encryptor = PublicEncryptor(Engine(self.task.public.parameters), self.public)
        return _encrypt(self.task, encryptor, self.sealing_key, images, labels, labelled, threads, progress)

    @classmethod
    def load(cls, task: Task, path: str | os.PathLike[str]) -> ContributorKeys:
        """Read public.cl. Raises FormatError, or KeyMismatch when it is not of the task's parameters."""
        public, sealing = read_public_key(Path(path))
        if public.parameters.id != task.public.parameters.id:
            raise KeyMismatch(f"{path} was made for other parameters than the task's; ask the owner for the right one")
        return cls(task, public, sealing)


@dataclass(frozen=True, eq=False)
class OwnerSecrets(NotebookRepr):
    """What decrypting needs: the content of secret.cl.

    Attributes:
        task: the public task the key was made for.
        notes: class names and statistics for the checks.
        secret: the secret key.
        sealing_private: X25519 private key, 32 bytes, for names.
        earlier_sealing: those of the keys that this one succeeded, the newest first: names stay sealed as they were when
            the server switches their images to a new key, which it could not do with names.
    """

    task: PublicTask
    notes: PrivateNotes
    secret: SecretKey
    sealing_private: bytes = field(repr=False)
    earlier_sealing: tuple[bytes, ...] = field(default=(), repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secret keys are never pickled; save them with a passphrase instead")

    def decrypt(self, reply: Reply, recipe: Recipe | None = None) -> Answers:
        """Labels and scores.

        recipe: the one that the model was trained by, when it was not the task's own. The owner states it: level, scale
        and layout follow from it and the owner's task, and from nothing that the reply says.
        Raises KeyMismatch, FormatError, PlanError for a recipe beyond the task, and RangeError when the solve left its
        range.
        """
        sealing_keys = (self.sealing_private, *self.earlier_sealing)
        return decrypt_reply(self.secret, sealing_keys, self._task(recipe), self.notes, reply)

    def open(self, model: TrainedModel, recipe: Recipe | None = None) -> ClearModel:
        """A model's weights in the clear. Arguments and errors as for `decrypt`."""
        return open_model(self.secret, self._task(recipe), self.notes, model)

    def _task(self, recipe: Recipe | None) -> PublicTask:
        return self.task if recipe is None else recipe.applied(self.task)

    def save(self, path: Path, passphrase: bytes | None) -> None:
        """Write secret.cl, mode 0600, wrapped by the passphrase unless that is None."""
        notes = canonical_json(self.notes.to_dict()).encode()
        coefficients = (self.secret.coefficients + 1).astype(np.uint8).tobytes()
        payload = len(notes).to_bytes(4, "little") + notes + self.sealing_private + coefficients
        payload += b"".join(self.earlier_sealing)
        if passphrase is not None:
            payload = wrap(payload, passphrase, context=_context(self.task, self.secret.key_id))
        header = {"task": self.task.to_dict(), "key_id": self.secret.key_id, "wrapped": passphrase is not None}
        with Writer(path, Kind.SECRET_KEY, header, {"payload": (np.uint8, (len(payload),))}, private=True) as writer:
            writer.write("payload", np.frombuffer(payload, np.uint8))

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: bytes | None = None) -> OwnerSecrets:
        """Read secret.cl.

        Raises:
            KeyMismatch: the passphrase is wrong or missing.
            FormatError: the file is damaged.
        """
        with Reader.open(Path(path), Kind.SECRET_KEY) as reader:
            task = PublicTask.from_dict(reader.header.get("task"))
            key_id = header_hex(reader.header, "key_id", 32)
            reader.expect("payload", np.uint8, (None,))
            reader.expect_only(["payload"])
            payload = reader.read("payload").tobytes()
            if header_bool(reader.header, "wrapped"):
                if passphrase is None:
                    raise KeyMismatch(f"{path} is protected by a passphrase; give it with --passphrase-file")
                payload = unwrap(payload, passphrase, context=_context(task, key_id))
        size = int.from_bytes(payload[:4], "little")
        notes, rest = payload[4 : 4 + size], payload[4 + size :]
        end = SEALING_BYTES + task.parameters.ring_dimension
        if len(rest) < end or (len(rest) - end) % SEALING_BYTES:
            raise FormatError(f"{path} holds no secret key of its task")
        coefficients = np.frombuffer(rest[SEALING_BYTES:end], np.uint8).astype(np.int8) - np.int8(1)
        secret = SecretKey(Engine(task.parameters), key_id, coefficients)
        private = PrivateNotes.from_dict(parse_json_object(notes, str(path)), task)
        earlier = tuple(rest[at : at + SEALING_BYTES] for at in range(end, len(rest), SEALING_BYTES))
        return cls(task, private, secret, rest[:SEALING_BYTES], earlier)


@dataclass(frozen=True, eq=False)
class Keys(NotebookRepr):
    """All keys of one task.

    Attributes:
        task: the planned task.
        secrets: what decrypts; stays with the owner.
        public: for contributors.
        evaluation: for the server.
    """

    task: Task
    secrets: OwnerSecrets
    public: ContributorKeys
    evaluation: EvaluationKeys

    def __repr__(self) -> str:
        count, size = len(self.evaluation.keys), self.evaluation.nbytes
        return f"Keys({self.secrets.secret.key_id[:8]}, {count} evaluation keys, {size / 1e6:.1f} MB packed)"

    @classmethod
    def create(
        cls, task: Task, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Keys:
        """Fresh keys for a task, and for no more rotations and levels than it uses.

        Raises SecurityError for parameters that are not inside the security table.
        """
        return cls._create(task, (), threads, progress)

    @classmethod
    def create_successor(
        cls, task: Task, old: OwnerSecrets, *, threads: int | None = None, progress: Progress | None = None
    ) -> tuple[Keys, KeyChange]:
        """Fresh keys for the same task, and the switching key that takes encrypted images and models from the old ones.

        Names that were sealed for the old keys stay readable with the new. Raises KeyMismatch when `old` is of another
        task, and SecurityError as `create`.
        """
        if old.task.id != task.public.id:
            raise KeyMismatch("these keys were made for another task; give the task that they were made for")
        new = cls._create(task, (old.sealing_private, *old.earlier_sealing), threads, progress)
        return new, old.secret.key_change(new.secrets.secret, task.public.circuit.top, threads or usable_cores())

    @classmethod
    def _create(
        cls, task: Task, earlier_sealing: tuple[bytes, ...], threads: int | None, progress: Progress | None
    ) -> Keys:
        threads = threads or usable_cores()
        engine = Engine(task.public.parameters)
        secret = SecretKey.create(engine)
        evaluation = secret.evaluation_keys(task.public.circuit.key_requests(), threads, progress)
        private, sealing = new_sealing_keys()
        secrets = OwnerSecrets(task.public, task.notes, secret, private, earlier_sealing)
        return cls(task, secrets, ContributorKeys(task, secret.public_key(threads), sealing), evaluation)

    def encrypt(
        self, images: Any, labels: Any = None, *, labelled: bool | None = None, threads: int | None = None,
        progress: Progress | None = None,
    ) -> EncryptedImages:  # fmt: skip
        """Encrypt images for the task.

        images, labels: as for `plan`. labelled: whether labels go along, in the clear as class numbers; by default when
        labels are given. Raises InputError for images or labels that cannot be used.
        """
        return _encrypt(
            self.task, SecretEncryptor(self.secrets.secret), self.public.sealing_key, images, labels, labelled, threads,
            progress,
        )  # fmt: skip

    def decrypt(self, reply: Reply, recipe: Recipe | None = None) -> Answers:
        """`.labels`, `.scores`, `.files`. Arguments and errors as for `OwnerSecrets.decrypt`."""
        return self.secrets.decrypt(reply, recipe)

    def save(self, folder: str | os.PathLike[str], passphrase: bytes | None, change: KeyChange | None = None) -> None:
        """Write secret.cl, public.cl, evaluation.cl and, where there is one, the switching key that leads to them as
        switching.cl into a folder: all of them, or none. Nothing is replaced.

        Raises InputError when the folder cannot be written or holds keys.
        """
        path = Path(folder)
        refuse_existing(path)
        made = not path.exists()
        linked: list[Path] = []
        hidden = str(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".keys-", dir=path) as hidden:
                room = Path(hidden)
                write_evaluation_keys(room / EVALUATION, self.evaluation)
                write_public_key(room / PUBLIC, self.public.public, self.public.sealing_key)
                self.secrets.save(room / SECRET, passphrase)
                if change is not None:
                    write_key_change(room / SWITCHING, change)
                # A link fails where a file is, so of two that write here at once one gets the folder and the other
                # leaves it alone; the secret key claims it.
                for written in (SECRET, PUBLIC, EVALUATION, *([SWITCHING] if change is not None else [])):
                    _place(room / written, path / written)
                    linked.append(path / written)
        except BaseException as error:
            for file in linked:
                file.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # somebody else may have put a file there
                    path.rmdir()
            if isinstance(error, FileExistsError):
                raise InputError(f"{path} holds keys by now, which are never replaced; choose another folder") from None
            if isinstance(error, InputError):  # a full disk, say: the folder that it names is gone by now
                raise type(error)(str(error).replace(hidden, str(path))) from None
            if isinstance(error, OSError):
                raise InputError(f"the folder {path} cannot be written: {error.strerror}; choose another") from None
            raise

    @classmethod
    def load(cls, task: Task, folder: str | os.PathLike[str], passphrase: bytes | None = None) -> Keys:
        """Read the three files. Raises KeyMismatch when they do not belong to the task or to each other."""
        path = Path(folder)
        secrets = OwnerSecrets.load(path / SECRET, passphrase)
        public = ContributorKeys.load(task, path / PUBLIC)
        evaluation = read_evaluation_keys(path / EVALUATION, secrets.secret.engine)
        if secrets.task.id != task.public.id:
            raise KeyMismatch(f"the keys in {path} were made for another task; use the task they were made for")
        if not secrets.secret.key_id == public.public.key_id == evaluation.key_id:
            raise KeyMismatch(f"the files in {path} belong to different key pairs; do not mix key folders")
        return cls(task, secrets, public, evaluation)


def _place(source: Path, target: Path) -> None:
    """Give a whole file its name, which must be free; also where the file system knows no links. Raises OSError."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        mode = stat.S_IMODE(source.stat().st_mode)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy:
            try:
                copy.write(source.read_bytes())
                copy.flush()
                os.fsync(copy.fileno())
            except BaseException:
                target.unlink(missing_ok=True)
                raise


def _context(task: PublicTask, key_id: str) -> bytes:
    """The header of secret.cl, bound to the wrapped secret: with another task it would be decrypted with wrongly."""
    return canonical_json({"task": task.to_dict(), "key_id": key_id}).encode()


def refuse_existing(folder: Path) -> None:
    """Raise InputError if the folder already holds keys: losing a secret key loses everything under it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the keys")
    for name in (SECRET, PUBLIC, EVALUATION, SWITCHING):
        if (folder / name).exists():
            raise InputError(f"{folder} already holds {name}, and keys are never replaced; choose another folder")


def _encrypt(
    task: Task, encryptor: Encryptor, sealing_key: bytes, images: Any, labels: Any, labelled: bool | None,
    threads: int | None, progress: Progress | None,
) -> EncryptedImages:  # fmt: skip
    with_labels = labels is not None if labelled is None else labelled
    prepared = prepare(task, images, labels, with_labels)
    encrypted = encrypt_images(task, encryptor, sealing_key, prepared, threads=threads, progress=progress)
    if encrypted is None:
        raise InputError("encrypting into memory gave nothing")
    return encrypted
