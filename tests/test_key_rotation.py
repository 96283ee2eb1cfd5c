"""New keys for a task, and what was encrypted under the old ones taken along: keys, ciphertexts, images, models, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from attacks.forge import Fields, edit
from service_world import rows
from toy import KERNELS, ToySecretKey, integers, limbs_of, reference_ring, toy_parameters

import cipherlens as cl
from cipherlens.errors import CipherlensError, FormatError, KeyMismatch, PlanError, SecurityError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.results import TrainedModel
from cipherlens.owner.decryption import Answers
from cipherlens.owner.keys import SECRET, SWITCHING, Keys, OwnerSecrets
from cipherlens.owner.secret_key import SecretKey
from cipherlens.planning.task import Task
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import KeyChange
from cipherlens.scheme.parameters import Parameters
from cipherlens.wire.key_change import read_key_change, write_key_change

SHAPES = {
    "partial last digit": toy_parameters(64, (40, 34, 34, 34, 34), (38, 38, 38), 3),
    "all sizes of primes": toy_parameters(128, (50, 26, 33, 41, 30), (50, 49), 2),
    "a digit a prime": toy_parameters(64, (26, 26, 26), (26,), 1),
}

# ---- the switching key and the key switch ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest) -> tuple[SecretKey, SecretKey, KeyChange]:
    """Two secrets of a toy ring, and the key from the first to the second at the top level."""
    engine = Engine(SHAPES[request.param])
    old, new = ToySecretKey.create(engine), ToySecretKey.create(engine)
    return old, new, old.key_change(new, engine.parameters.top_level)


def test_the_key_is_the_old_secret_under_the_new_one(pair: tuple[SecretKey, SecretKey, KeyChange]) -> None:
    """b_d + a_d s_new = P g_d s_old + e_d with |e_d| <= 21, modulo all primes at once."""
    old, new, change = pair
    ring = reference_ring(old.engine.parameters)
    primes = ring.extended(len(ring.chain))
    modulus = prod(primes)
    source, target = integers(old.coefficients), integers(new.coefficients)
    for (b, a), group in zip(change.key.data, ring.groups(len(ring.chain)), strict=True):
        gadget = reference.chinese_remainder([prod(ring.special) % p if p in group else 0 for p in primes], primes)
        product = reference.negacyclic(reference.lift(a, primes), target, modulus)
        rest = [
            reference.centred(x + y - gadget * s, modulus)
            for x, y, s in zip(reference.lift(b, primes), product, source, strict=True)
        ]
        assert 0 < max(map(abs, rest)) <= 21


@pytest.mark.parametrize("drop", [0, 2])
def test_switching_is_the_reference_bit_for_bit(pair: tuple[SecretKey, SecretKey, KeyChange], drop: int) -> None:
    """On every kernel, with several threads, and at a level below the key's: its digits cut to the primes present."""
    change, parameters = pair[2], pair[0].engine.parameters
    limbs = len(parameters.primes) - drop
    data = limbs_of(parameters.primes[:limbs], parameters.ring_dimension, np.random.default_rng(drop), (2,))
    expected = reference_ring(parameters).key_switch(data[1], change.key.data, data[0], None, 1, rescale=False)
    for kernel in KERNELS:
        for threads in (1, 3):
            evaluator = Evaluator(Engine(parameters, kernel), None, threads)
            found = evaluator.change_key(Ciphertext(data, 2.0**20), change)
            np.testing.assert_array_equal(found.data, expected, err_msg=f"{kernel}, {threads} threads")
            assert found.scale == 2.0**20


def test_what_does_not_fit_is_refused(pair: tuple[SecretKey, SecretKey, KeyChange]) -> None:
    old, new, change = pair
    parameters = old.engine.parameters
    evaluator = Evaluator(old.engine)
    three = np.zeros((3, 2, parameters.ring_dimension))
    with pytest.raises(PlanError, match="two parts"):
        evaluator.change_key(Ciphertext(three, 1.0), change)
    with pytest.raises(KeyMismatch, match="does not serve level 1"):
        evaluator.change_key(Ciphertext(three[:2], 1.0), old.key_change(new, 0))
    other = ToySecretKey.create(Engine(toy_parameters(64, (30, 41, 26), (50,), 1)))
    with pytest.raises(KeyMismatch, match="the same ring"):
        old.key_change(other, 0)
    with pytest.raises(KeyMismatch, match="another key"):
        old.key_change(old, 0)


def test_every_switching_key_has_a_seed_and_errors_of_its_own(pair: tuple[SecretKey, SecretKey, KeyChange]) -> None:
    old, new, change = pair
    again = old.key_change(new, change.level)
    assert again.key.seed != change.key.seed
    assert not np.array_equal(again.key.data, change.key.data)


# ---- files ----------------------------------------------------------------------------------------------------------


def small(levels: int = 1) -> Parameters:
    return Parameters.generate(1 << 12, levels, scale_bits=30, first_bits=36, special=1, special_bits=36, digit=1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeyChange]:
    """A switching key inside the security table, in a file."""
    engine = Engine(small())
    old, new = SecretKey.create(engine), SecretKey.create(engine)
    change = old.key_change(new, 1)
    path = tmp_path_factory.mktemp("switching") / "switching.cl"
    write_key_change(path, change)
    return path, change


def test_a_file_gives_the_key_back(stored: tuple[Path, KeyChange]) -> None:
    path, change = stored
    back = read_key_change(path)
    np.testing.assert_array_equal(back.key.data, change.key.data)
    assert (back.old_key_id, back.key_id, back.level) == (change.old_key_id, change.key_id, change.level)
    assert path.stat().st_mode & 0o777 == 0o600
    packed = change.parameters.switching_key_bytes(1)
    assert packed < path.stat().st_size < packed + 3000


def header(**changes: object) -> Callable[[bytes], bytes]:
    """An attack on the kind's own fields."""
    import json

    def change(fields: Fields) -> None:
        values = json.loads(fields["__metadata__"]["header"]) | changes
        fields["__metadata__"]["header"] = json.dumps(values, sort_keys=True, separators=(",", ":"))

    return edit(change)


def above_the_table() -> dict[str, Any]:
    """A ring of 2^12 with 144 bits, where the table allows 106."""
    wide = toy_parameters(1 << 12, (36, 36, 36), (36,), 1)
    return wide.to_dict() | {"scale_bits": 30}


@pytest.mark.parametrize(
    ("attack", "error", "words"),
    [
        (header(level=0), FormatError, "should be"),
        (header(level=2), FormatError, "level"),
        (header(old_key_id="0" * 31), FormatError, "old_key_id"),
        (header(key_id=None), FormatError, "key_id"),
        (header(parameters=above_the_table()), SecurityError, "above 106"),
        (edit(lambda f: f["__metadata__"].update(kind="evaluation_keys")), FormatError, "evaluation keys"),
        (edit(lambda f: f.update(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})), FormatError, "more"),
    ],
)
def test_forged_files_are_refused(
    stored: tuple[Path, KeyChange], tmp_path: Path, attack: Callable[[bytes], bytes],
    error: type[CipherlensError], words: str,
) -> None:  # fmt: skip
    path = tmp_path / "forged.cl"
    path.write_bytes(attack(stored[0].read_bytes()))
    with pytest.raises(error, match=words):
        read_key_change(path)


def test_a_key_to_itself_and_a_residue_beyond_its_prime_are_refused(
    stored: tuple[Path, KeyChange], tmp_path: Path
) -> None:
    path, data = tmp_path / "forged.cl", stored[0].read_bytes()
    path.write_bytes(header(old_key_id="1" * 32, key_id="1" * 32)(data))
    with pytest.raises(FormatError, match="from a key to itself"):
        read_key_change(path)
    start = 8 + int.from_bytes(data[:8], "little")
    altered = data[:start] + b"\xff" * 64 + data[start + 64 :]
    path.write_bytes(edit(lambda fields: None)(altered))
    with pytest.raises(FormatError, match="not below its prime"):
        read_key_change(path)


# ---- images and models ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A task under old and new keys: images of the owner and of a contributor, switched, and models of both."""

    task: Task
    old: Keys
    new: Keys
    change: KeyChange
    data: tuple[EncryptedImages, EncryptedImages]
    switched: tuple[EncryptedImages, EncryptedImages]
    model: TrainedModel
    retrained: TrainedModel
    expected: Answers


def switch(images: EncryptedImages, change: KeyChange, **options: Any) -> EncryptedImages:
    switched = cl.server.switch_images(images, change, **options)
    assert switched is not None
    return switched


@pytest.fixture(scope="module")
def world() -> World:
    table, labels = rows(1024, 1)
    task = cl.plan(table[:240], labels[:240], features="table", threads=1, steps=2, dimension=32)
    old = Keys.create(task, threads=2)
    new, change = Keys.create_successor(task, old.secrets, threads=2)
    data = (old.encrypt(table[:512], labels[:512]), old.public.encrypt(table[512:], labels[512:]))
    switched = (switch(data[0], change), switch(data[1], change))
    model = cl.server.train(data, old.evaluation)
    retrained = cl.server.train(switched, new.evaluation)
    expected = old.decrypt(cl.server.classify(model, old.encrypt(rows(200, 2)[0]), old.evaluation))
    return World(task, old, new, change, data, switched, model, retrained, expected)


def close(found: Answers, expected: Answers) -> None:
    """Scores within the noise, and so the same predictions but for scores that the noise can turn."""
    worst = np.abs(found.scores - expected.scores).max()
    assert worst < 1e-3 * np.abs(expected.scores).max()
    clear = np.abs(expected.scores[:, 0]) > worst
    assert clear.mean() > 0.95 and np.array_equal(found.numbers[clear], expected.numbers[clear])


def test_training_and_classifying_go_on_under_the_new_key(world: World) -> None:
    fresh, truth = rows(200, 2)
    reply = cl.server.classify(world.retrained, world.new.encrypt(fresh), world.new.evaluation)
    answers = world.new.decrypt(reply)
    close(answers, world.expected)
    assert np.mean(np.array(answers.labels) == np.array(truth)) > 0.9


def test_a_model_can_be_switched_too(world: World) -> None:
    model = cl.server.switch_model(world.model, world.change)
    old, new = world.old.secrets.open(world.model), world.new.secrets.open(model)
    np.testing.assert_allclose(new.weights, old.weights, rtol=0, atol=1e-4)
    reply = cl.server.classify(model, world.new.encrypt(rows(200, 2)[0]), world.new.evaluation)
    close(world.new.decrypt(reply), world.expected)


def test_queries_keep_their_names(world: World) -> None:
    """Sealed for the old key, read by the owner of the new one, and of the next; not by somebody else's."""
    query = switch(world.old.encrypt(rows(20, 3)[0]), world.change)
    reply = cl.server.classify(world.retrained, query, world.new.evaluation)
    assert world.new.decrypt(reply).files == tuple(str(i) for i in range(20))
    newest, change = Keys.create_successor(world.task, world.new.secrets, threads=2)
    again = switch(query, change)
    model = cl.server.switch_model(world.retrained, change)
    reply = cl.server.classify(model, again, newest.evaluation)
    assert newest.decrypt(reply).files == tuple(str(i) for i in range(20))
    assert len(newest.secrets.earlier_sealing) == 2
    forgetful = replace(newest.secrets, earlier_sealing=())
    with pytest.raises(KeyMismatch, match="sealed names"):
        forgetful.decrypt(reply)


def test_each_key_reads_its_own(world: World) -> None:
    query = rows(20, 4)[0]
    under_old = cl.server.classify(world.model, world.old.encrypt(query), world.old.evaluation)
    under_new = cl.server.classify(world.retrained, world.new.encrypt(query), world.new.evaluation)
    for keys, reply in ((world.new, under_old), (world.old, under_new)):
        with pytest.raises(KeyMismatch, match="another key"):
            keys.decrypt(reply)
        relabelled = replace(reply, key_id=keys.secrets.secret.key_id)  # a lie about the key gives no answer either
        with pytest.raises(CipherlensError):
            keys.decrypt(relabelled)
    with pytest.raises(KeyMismatch, match="another key pair"):
        cl.server.train(world.switched, world.old.evaluation)
    with pytest.raises(KeyMismatch, match="another key"):
        cl.server.train([world.data[0], world.switched[1]], world.old.evaluation)


def test_only_what_the_key_leads_from_is_switched(world: World) -> None:
    with pytest.raises(KeyMismatch, match="from another key pair"):
        cl.server.switch_images(world.switched[0], world.change)
    with pytest.raises(KeyMismatch, match="from another key pair"):
        cl.server.switch_model(world.retrained, world.change)
    low = world.old.secrets.secret.key_change(world.new.secrets.secret, 1)
    with pytest.raises(KeyMismatch, match="levels"):
        cl.server.switch_images(world.data[0], low)
    table, labels = rows(240, 1)
    other = cl.plan(table, labels, features="table", threads=1, steps=2, dimension=32)
    with pytest.raises(KeyMismatch, match="another task"):
        Keys.create_successor(other, world.old.secrets)


def test_the_same_bytes_from_every_kernel_and_number_of_threads(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = set()
    for kernel in KERNELS:
        monkeypatch.setenv("CIPHERLENS_KERNEL", kernel)
        for threads in (1, 3):
            path = tmp_path / f"{kernel}-{threads}.cl"
            cl.server.switch_images(world.data[0], world.change, path=path, threads=threads)
            written.add(path.read_bytes())
    switch(world.data[0], world.change).save(tmp_path / "memory.cl")
    assert written == {(tmp_path / "memory.cl").read_bytes()}


def test_what_is_switched_keeps_labels_and_order_and_needs_no_room_for_all(world: World) -> None:
    for before, after in zip(world.data, world.switched, strict=True):
        assert before.labels is not None and after.labels is not None
        assert np.array_equal(before.labels, after.labels) and before.names == after.names
        assert (after.key_id, after.seeded) == (world.new.secrets.secret.key_id, False)
        engine = world.new.secrets.secret.engine
        for i in range(len(before.rows)):
            old = world.old.secrets.secret.decrypt(before.batch(engine, i).ciphertext)
            new = world.new.secrets.secret.decrypt(after.batch(engine, i).ciphertext)
            assert np.abs(old - new).max() < 1e-4


# ---- the folder of the new keys -------------------------------------------------------------------------------------


def test_the_folder_holds_all_four_files_and_the_secret_comes_back(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "NEW"
    world.new.save(folder, b"correct horse", world.change)
    assert sorted(path.name for path in folder.iterdir()) == [
        "evaluation.cl", "public.cl", "secret.cl", "switching.cl",
    ]  # fmt: skip
    back = OwnerSecrets.load(folder / SECRET, b"correct horse")
    assert back.earlier_sealing == (world.old.secrets.sealing_private,)
    assert back.sealing_private == world.new.secrets.sealing_private != world.old.secrets.sealing_private
    assert read_key_change(folder / SWITCHING).old_key_id == world.old.secrets.secret.key_id
    with pytest.raises(KeyMismatch):
        OwnerSecrets.load(folder / SECRET, b"another")
