"""Publishing to trainers, over the network: what they may do, what stays hidden, and the one number that comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from publishing_world import World, made_world, trainer_token
from service_world import Service, client, log_lines, token
from sqlalchemy import select

import cipherlens as cl
from cipherlens.client.publishing import Publication, PublishingConnection, Submission
from cipherlens.client.transfer import sha256_of
from cipherlens.errors import InputError, SecurityError, ServerError
from cipherlens.learning.encrypted_images import EncryptedImages
from cipherlens.learning.recipes import Envelope, Recipe
from cipherlens.learning.results import Reply, TrainedModel
from cipherlens.owner.keys import Keys
from cipherlens.service.audit import CURRENT
from cipherlens.service.database import Database, File, Job, Tenant, new_id
from cipherlens.service.errors import TooManyJobs
from cipherlens.service.jobs import check_job_quota
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings
from cipherlens.service.tokens import Scope, create_token


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made_world(tmp_path_factory.mktemp("publishing") / "data") as made:
        yield made


@pytest.fixture
def owner(world: World) -> Iterator[PublishingConnection]:
    with world.connect(world.owner_token) as server:
        yield server


@pytest.fixture(scope="module")
def publication(world: World) -> Publication:
    with world.connect(world.owner_token) as server:
        return world.publish(server)


@pytest.fixture(scope="module")
def ada(world: World, publication: Publication) -> str:
    return world.trainer(publication, "ada")


@pytest.fixture(scope="module")
def ben(world: World, publication: Publication) -> str:
    return world.trainer(publication, "ben")


# ---- the whole way --------------------------------------------------------------------------------------------------


def test_from_recipes_to_a_scoreboard(
    world: World, owner: PublishingConnection, publication: Publication, ada: str, ben: str, tmp_path: Path
) -> None:
    assert world.publish(owner) == publication  # once more changes nothing
    assert set(publication.envelope.learners) == {"ridge", "fisher", "linear_means"}
    assert (publication.images, publication.holdout_images, publication.withdrawn) == (256, 80, False)
    assert owner.publications() == [publication]
    recipes = {"ada": Recipe("linear_means"), "ben": Recipe("fisher", 2, 0.3)}
    for name, secret in (("ada", ada), ("ben", ben)):
        with world.connect(secret) as server:
            assert [p.trainers for p in server.publications()] == [(name,)]
            done = server.wait_submission(server.submit(publication.id, recipes[name]))
            assert (done.trainer, done.reply_id, done.score) == (name, None, None)
            assert server.submit(publication.id, recipes[name]) == done  # counts once
            server.download_model(done, tmp_path / f"{name}.cl")
            assert [s.number for s in server.submissions(publication.id)] == [done.number]
    made = owner.submissions(publication.id)
    assert [(s.trainer, s.recipe) for s in made] == list(recipes.items())
    scores = []
    for submission in made:
        recomputed = world.recompute(owner, submission)
        accuracy = world.accuracy(recomputed)
        assert accuracy > 0.9
        released = owner.release(recomputed, accuracy)
        scores.append(int(100 * accuracy + 0.5))
        assert released.score == scores[-1]
        assert owner.release(recomputed, accuracy) == released  # the same again changes nothing
        with pytest.raises(ServerError, match="never released"):
            owner.release(recomputed, accuracy - 0.3)
        again = cl.server.train(world.data, world.keys.evaluation, recipe=submission.recipe)
        again.save(tmp_path / "again.cl")
        assert (tmp_path / "again.cl").read_bytes() == (tmp_path / f"{submission.trainer}.cl").read_bytes()
    for secret in (ada, ben, world.owner_token):
        with world.connect(secret) as server:
            board = server.scoreboard(publication.id)
            assert [(r.trainer, r.recipe, r.score) for r in board[:2]] == [
                (name, recipe, score) for (name, recipe), score in zip(recipes.items(), scores, strict=True)
            ]


def test_one_recipe_of_two_trainers_gives_the_same_bytes(
    world: World, owner: PublishingConnection, publication: Publication, ada: str, ben: str, tmp_path: Path
) -> None:
    models = []
    for secret in (ada, ben):
        with world.connect(secret) as server:
            done = server.wait_submission(server.submit(publication.id, Recipe("ridge", 1, 0.25)))
            server.download_model(done, tmp_path / "model.cl")
            models.append((tmp_path / "model.cl").read_bytes())
    assert models[0] == models[1]
    same = [s for s in owner.submissions(publication.id) if s.recipe == Recipe("ridge", 1, 0.25)]
    assert len({s.model_id for s in same}) == 2
    assert len({s.reply_id for s in same}) == 1  # one noise, so nothing to average


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_outside_the_envelope(world: World, publication: Publication, ada: str) -> None:
    with world.connect(ada) as server:
        before = server.submissions(publication.id)
        for recipe, words in (
            (Recipe("ridge", 9, 0.2), "steps 9; this publication allows 1 to 2"),
            (Recipe("fisher", 2, 7.0), r"ridge 7; this publication allows 0.1 to"),
        ):
            with pytest.raises(ServerError, match=words):
                server.submit(publication.id, recipe)
        assert server.submissions(publication.id) == before
    with client(world.service.url, ada) as plain:
        path = f"/v1/publications/{publication.id}/submissions"
        for body in (
            {"learner": "linear_means", "steps": 2}, {"learner": "ridge"}, {"learner": "ridge", "steps": 2},
        ):  # fmt: skip
            answer = plain.ask("POST", path, json=body)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "OutsideEnvelope")
        for body in (
            {"learner": "forest"}, {"learner": "ridge", "steps": True, "ridge": 0.2}, [], {"learner": "ridge", "x": 1},
            {"learner": "ridge", "steps": 2, "ridge": "0.2"}, {"learner": "ridge", "steps": 2, "ridge": 1e99},
        ):  # fmt: skip
            answer = plain.ask("POST", path, json=body)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "Invalid")


def test_the_limit_survives_deletion(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["cleo"], submissions_each=1)
    with world.connect(world.trainer(publication, "cleo")) as server:
        done = server.wait_submission(server.submit(publication.id, Recipe("linear_means")))
        server.delete_model(done)
        server.delete_model(done)  # once more is no failure
        assert server.submission(publication.id, 1).model_id is None
        with pytest.raises(ServerError, match="cleo has made 1 submissions, as many as"):
            server.submit(publication.id, Recipe("ridge", 1, 0.2))
    (submission,) = owner.submissions(publication.id)
    recomputed = world.recompute(owner, submission)  # the reply is still the owner's
    assert owner.release(recomputed, world.accuracy(recomputed)).score is not None


def test_a_model_counts_to_the_trainers_quota(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["dora"], submissions_each=3)
    secret = world.trainer(publication, "dora")
    with world.connect(secret) as server:
        server.wait_submission(server.submit(publication.id, Recipe("linear_means")))
        database = Database(world.service.data)
        with database.writing() as session:
            session.scalars(select(Tenant).where(Tenant.name == "dora")).one().quota_bytes = 1000
        database.close()
        with pytest.raises(ServerError, match="0 of the quota of 1000 are left"):
            server.submit(publication.id, Recipe("ridge", 1, 0.2))


def test_evaluations_leave_the_owners_quota_of_jobs_alone(tmp_path: Path) -> None:
    token(tmp_path)
    database = Database(tmp_path)
    with database.writing() as session:
        tenant = session.scalars(select(Tenant)).one()
        tenant.quota_jobs = 1
        for kind in ("evaluate", "evaluate", "train"):
            check_job_quota(session, tenant.id)
            session.add(
                Job(
                    tenant_id=tenant.id, idempotency_key=new_id(), kind=kind, recipe="{}", inputs="{}", state="queued",
                    stage="", progress=0.0, deaths=0, created=0.0,
                )
            )  # fmt: skip
            session.flush()
        with pytest.raises(TooManyJobs):
            check_job_quota(session, tenant.id)
    database.close()


def test_publications_that_are_refused(world: World, owner: PublishingConnection) -> None:
    for more, words in (
        ({"envelope": Envelope(("ridge",), (1, 9), (0.2, 0.2))}, "ridge, 9 steps.*levels"),
        ({"envelope": Envelope(("ridge", "ridge"), (1, 2), (0.2, 0.2))}, "each once"),
        ({"envelope": Envelope(("ridge",), (2, 1), (0.2, 0.2))}, "exchange"),
        ({"trainers": ["ada", "ada"]}, "named twice"),
        ({"trainers": ["a b"]}, "trainers"),
        ({"trainers": []}, "trainers"),
        ({"submissions_each": 0}, "submissions_each"),
    ):
        with pytest.raises(ServerError, match=words):
            world.publish(owner, **more)
    options: dict[str, Any] = {"trainers": ["ada"], "submissions_each": 1}
    with pytest.raises(ServerError, match="labels in the clear"):
        owner.publish(world.data[0], world.keys.evaluation, world.data[1], **options)
    with pytest.raises(ServerError, match="no labels"):
        owner.publish(world.holdout, world.keys.evaluation, world.holdout, **options)
    other = Keys.create(world.keys.task, threads=2)
    with pytest.raises(ServerError, match="several keys"):
        owner.publish(world.data[0], other.evaluation, world.holdout, **options)


def test_tokens_of_trainers(world: World, owner: PublishingConnection, publication: Publication) -> None:
    data = world.service.data
    with pytest.raises(InputError, match="has not named a trainer mallory"):
        trainer_token(data, publication.id, "mallory")
    with pytest.raises(InputError, match="no publication"):
        trainer_token(data, "0" * 32, "ada")
    own = world.publish(owner, trainers=["clinic"], submissions_each=1)
    with pytest.raises(InputError, match="other tenants"):
        trainer_token(data, own.id, "clinic")
    database = Database(data)
    for scope, more in ((Scope.TRAINER, {}), (Scope.OWNER, {"publication_id": publication.id})):
        with pytest.raises(InputError, match="--publication"):
            create_token(database, Settings(data=data), "ada", scope, **more)
    database.close()
    command = [
        sys.executable,
        "-m",
        "cipherlens.cli.main",
        "token",
        "create",
        "--data",
        str(data),
        "--scope",
        "trainer",
    ]
    done = subprocess.run(
        [*command, "--publication", publication.id, "--tenant", "ben", "--json"], capture_output=True, check=True
    )
    with world.connect(json.loads(done.stdout)["token"]) as server:
        assert [p.id for p in server.publications()] == [publication.id]


# ---- who sees what --------------------------------------------------------------------------------------------------


def test_nothing_of_others_is_there(world: World, publication: Publication, ada: str, ben: str) -> None:
    with world.connect(ben) as server:
        theirs = server.wait_submission(server.submit(publication.id, Recipe("ridge", 2, 0.15)))
    with world.connect(world.owner_token) as server:
        mine = server.submission(publication.id, theirs.number)
        other = world.publish(server, trainers=["ada"], submissions_each=2)
    with client(world.service.url, world.owner_token) as plain:
        jobs = [job["job_id"] for job in plain.done("GET", "/v1/jobs")["jobs"]]
        evaluation = next(job for job in plain.done("GET", "/v1/jobs")["jobs"] if job["kind"] == "evaluate")
        assert evaluation["result_file_id"]
        held = [plain_file(world, plain, part) for part in (*world.data, world.holdout)]
        answer = plain.ask("DELETE", f"/v1/files/{theirs.model_id}")  # an owner may read it, and no more
        assert answer.status_code == 404
        assert plain.ask("GET", f"/v1/files/{theirs.model_id}").is_success
    stranger, contributor = token(world.service.data, "stranger"), contributor_token(world)
    paths = [
        *(f"/v1/files/{i}{end}" for i in (theirs.model_id, mine.reply_id, *held) for end in ("", "/info")),
        *(f"/v1/jobs/{i}{end}" for i in (jobs[0], evaluation["job_id"]) for end in ("", "/events")),
        f"/v1/publications/{publication.id}/submissions/{theirs.number}",
        f"/v1/publications/{other.id}/scoreboard", f"/v1/publications/{'0' * 32}", "/v1/jobs",
    ]  # fmt: skip
    with client(world.service.url, ada) as plain:
        for path in paths:
            if not path.startswith(f"/v1/publications/{other.id}"):
                assert plain.ask("GET", path).status_code == 404, path
        assert plain.ask("GET", f"/v1/publications/{other.id}").status_code == 404  # the token is for one alone
        for method, path, body in (
            ("POST", "/v1/files", announced()), ("POST", "/v1/datasets", {"file_ids": held}),
            ("POST", f"/v1/datasets/{'0' * 32}/append", {"file_id": held[0]}),
            ("POST", "/v1/jobs", {"kind": "train", "dataset_id": held[0], "keys_file_id": held[0]}),
            ("POST", "/v1/publications", publish_body(held)), ("DELETE", f"/v1/publications/{publication.id}", None),
            ("POST", f"/v1/publications/{publication.id}/submissions/{theirs.number}/score", {"percent": 100}),
            ("DELETE", f"/v1/files/{theirs.model_id}", None), ("DELETE", f"/v1/files/{mine.reply_id}", None),
        ):  # fmt: skip
            answer = plain.ask(method, path, json=body, headers={"Idempotency-Key": "x"})
            assert answer.status_code == 404, f"{method} {path}: {answer.text}"
    for secret in (stranger, contributor):
        with client(world.service.url, secret) as plain:
            for end in ("", "/submissions", f"/submissions/{theirs.number}", "/scoreboard"):
                assert plain.ask("GET", f"/v1/publications/{publication.id}{end}").status_code == 404
            path = f"/v1/publications/{publication.id}/submissions"
            assert plain.ask("POST", path, json={"learner": "linear_means"}).status_code == 404
            assert plain.ask("GET", f"/v1/files/{theirs.model_id}").status_code == 404
    with client(world.service.url, world.owner_token) as plain:  # an owner does not submit
        assert plain.ask("POST", path, json={"learner": "linear_means"}).status_code == 404
        for number in ("0", "999999999", "x", "1" * 20, "-1", "%C2%B2"):
            assert plain.ask("GET", f"{path}/{number}").status_code == 404
    assert world.owner_token not in world.service.log()


def plain_file(world: World, plain: Any, images: EncryptedImages) -> str:
    """The server's id of what was uploaded."""
    path = world.service.data.parent / "copy.cl"
    images.save(path)
    return str(plain.upload(path))


def announced() -> dict[str, Any]:
    return {"kind": "images", "size": 1, "sha256": "0" * 64, "header": "", "pieces": ["0" * 64]}


def publish_body(held: list[str]) -> dict[str, Any]:
    return {
        "dataset_id": held[0], "keys_file_id": held[0], "holdout_file_id": held[0], "trainers": ["x"],
        "submissions_each": 1,
    }  # fmt: skip


def contributor_token(world: World) -> str:
    with client(world.service.url, world.owner_token) as plain:
        file_id = plain_file(world, plain, world.data[0])
        made = plain.done("POST", "/v1/datasets", json={"file_ids": [file_id]}, headers={"Idempotency-Key": "open"})
    return token(world.service.data, dataset=made["dataset_id"])


# ---- the score ------------------------------------------------------------------------------------------------------


def test_no_release_without_recomputing(world: World, owner: PublishingConnection, publication: Publication) -> None:
    submission = owner.submissions(publication.id)[-1]
    with pytest.raises(InputError, match="recompute"):
        owner.release(submission, 0.9)  # type: ignore[arg-type]
    recomputed = world.recompute(owner, submission)
    for accuracy in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="share"):
            owner.release(recomputed, accuracy)
    uploaded = owner.upload(world.holdout)
    with pytest.raises(InputError, match="your own copies"):
        owner.recompute(submission, world.data, world.keys.evaluation, uploaded)  # type: ignore[arg-type]
    with client(world.service.url, world.owner_token) as plain:
        path = f"/v1/publications/{publication.id}/submissions/{submission.number}/score"
        for body in ({"percent": 93.5}, {"percent": 101}, {"percent": -1}, {"percent": True}, {"percent": "9"}, {}):
            assert plain.ask("POST", path, json=body).status_code == 422
        assert plain.ask("POST", path, json={"percent": 90, "accuracy": 0.9012}).status_code == 422
    assert owner.submission(publication.id, submission.number).score is None


@pytest.mark.parametrize("forged", ["model", "reply"])
def test_what_was_forged_is_not_decrypted(
    world: World, owner: PublishingConnection, publication: Publication, forged: str, tmp_path: Path
) -> None:
    submission = owner.submissions(publication.id)[0]
    file_id = submission.model_id if forged == "model" else submission.reply_id
    (path,) = world.service.data.glob(f"tenants/*/files/{file_id}.cl")
    honest = path.read_bytes()
    kind: Any = TrainedModel if forged == "model" else Reply
    found = kind.load(path)
    found.tables["weights"][5] ^= 1
    found.save(tmp_path / "forged.cl")
    database = Database(world.service.data)
    digests = [sha256_of(tmp_path / "forged.cl"), sha256_of(path)]
    try:
        path.write_bytes((tmp_path / "forged.cl").read_bytes())
        set_sha256(database, str(file_id), digests[0])  # a server that cheats says what fits
        with pytest.raises(SecurityError, match=rf"the server's {forged} is not what .*\(weights\)"):
            world.recompute(owner, submission)
    finally:
        path.write_bytes(honest)
        set_sha256(database, str(file_id), digests[1])
        database.close()
    world.recompute(owner, submission)


def set_sha256(database: Database, file_id: str, digest: str) -> None:
    with database.writing() as session:
        session.get_one(File, file_id).sha256 = digest


def test_other_data_than_was_published(world: World, owner: PublishingConnection, publication: Publication) -> None:
    submission = owner.submissions(publication.id)[0]
    with pytest.raises(SecurityError, match="is not what your data"):
        owner.recompute(submission, world.data[:1], world.keys.evaluation, world.holdout)


def test_the_log_holds_no_score(world: World, owner: PublishingConnection, publication: Publication) -> None:
    assert any(row.score is not None for row in owner.scoreboard(publication.id))
    for line in log_lines(world.service):
        assert not {"percent", "score", "accuracy", "recipe", "trainer"} & set(line), line


# ---- what may happen meanwhile --------------------------------------------------------------------------------------


def test_cancelled_and_submitted_again(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["finn"], submissions_each=1)
    secret = world.trainer(publication, "finn")
    with world.connect(secret) as server, world.connect(token(world.service.data, "finn")) as whole:
        submission = server.submit(publication.id, Recipe("ridge", 2, 0.2))
        for job in whole.jobs():  # the tenant's other token sees what the tenant computes
            whole.cancel(job)
        seen = server.submission(publication.id, submission.number)
        if seen.state != "cancelled":  # it was too fast
            assert seen.state in ("evaluating", "evaluated")
        again = server.submit(publication.id, Recipe("ridge", 2, 0.2))
        assert again.number == submission.number
        assert server.wait_submission(again).state == "evaluated"
    (counted,) = owner.submissions(publication.id)
    world.recompute(owner, counted)


def test_killed_while_it_trains(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["gina"], submissions_each=1)
    with world.connect(world.trainer(publication, "gina")) as server:
        submission = server.submit(publication.id, Recipe("fisher", 2, 0.2))
        time.sleep(0.4)
        world.service.kill("worker")
        assert server.wait_submission(submission).state == "evaluated"
    (counted,) = owner.submissions(publication.id)
    world.recompute(owner, counted)  # the bytes of an undisturbed run


def test_withdrawing(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["hugo"], submissions_each=3)
    holdout = owner.upload(world.holdout)
    with world.connect(world.trainer(publication, "hugo")) as server:
        done = server.wait_submission(server.submit(publication.id, Recipe("linear_means")))
        with pytest.raises(ServerError, match="withdraw the publication first"):
            owner.delete(holdout)
        owner.withdraw(publication.id)
        owner.withdraw(publication.id)
        with pytest.raises(ServerError, match="has withdrawn"):
            server.submit(publication.id, Recipe("ridge", 1, 0.2))
        assert server.submission(publication.id, done.number).state == "evaluated"
        recomputed = world.recompute(owner, owner.submission(publication.id, done.number))
        owner.release(recomputed, world.accuracy(recomputed))
        assert [row.score is None for row in server.scoreboard(publication.id)] == [False]
    with pytest.raises(InputError, match="no publication"):
        world.trainer(publication, "hugo")
    assert world.publish(owner, trainers=["hugo"], submissions_each=3).id != publication.id


@contextmanager
def paused(service: Service) -> Iterator[None]:
    """No worker takes a job meanwhile."""
    workers = service.children("worker")
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def test_deleting_what_is_published(world: World) -> None:
    """The owner's deletion withdraws the publication and cancels what is not evaluated; evaluated models stay theirs."""
    with world.connect(token(world.service.data, "leaving")) as owner:
        publication = world.publish(owner, trainers=["iris"], submissions_each=3)
        with world.connect(world.trainer(publication, "iris")) as server:
            done = server.wait_submission(server.submit(publication.id, Recipe("linear_means")))
            with paused(world.service):
                waiting = server.submit(publication.id, Recipe("ridge", 1, 0.2))
                plan = owner.plan_deletion(key=world.keys.evaluation.key_id)
                receipt = owner.erase(plan).receipt
            assert plan.withdrawn == 1
            assert {thing.kind for thing in receipt.objects} >= {"images", "evaluation_keys", "reply"}
            assert server.submission(publication.id, waiting.number).state == "cancelled"
            with pytest.raises(ServerError, match="has withdrawn"):
                server.submit(publication.id, Recipe("ridge", 1, 0.3))
            assert [row.number for row in server.scoreboard(publication.id)] == [done.number, waiting.number]
            kept = server.submission(publication.id, done.number)
            assert kept.model_id == done.model_id and kept.model_id is not None
        assert owner.files() == []
        assert [found.withdrawn for found in owner.publications()] == [True]


def test_deleting_ends_what_a_withdrawn_publication_still_trains(world: World) -> None:
    """And nothing of it is left once the receipt is signed: no sums, and later no model."""
    with world.connect(token(world.service.data, "leaving2")) as owner:
        publication = world.publish(owner, trainers=["jack"], submissions_each=3)
        with world.connect(world.trainer(publication, "jack")) as server:
            with paused(world.service):
                waiting = server.submit(publication.id, Recipe("ridge", 1, 0.2))
                owner.withdraw(publication.id)
                database = Database(world.service.data)
                with database.reading() as session:
                    tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "jack")).one()
                    job_id = session.scalars(select(Job.id).where(Job.tenant_id == tenant_id)).one()
                database.close()
                sums = Store(world.service.data).checkpoint(tenant_id, job_id)
                sums.parent.mkdir(parents=True, exist_ok=True)
                sums.touch()
                plan = owner.plan_deletion(key=world.keys.evaluation.key_id)
                assert plan.withdrawn == 0
                owner.erase(plan)
                assert not sums.exists()
            assert server.submission(publication.id, waiting.number).state == "cancelled"


def test_the_audit_log_names_what_is_published_and_released(world: World, owner: PublishingConnection) -> None:
    publication = world.publish(owner, trainers=["kate"], submissions_each=1)
    with world.connect(world.trainer(publication, "kate")) as server:
        server.wait_submission(server.submit(publication.id, Recipe("linear_means")))
    recomputed = world.recompute(owner, owner.submission(publication.id, 1))
    owner.release(recomputed, world.accuracy(recomputed))
    records = [json.loads(line) for line in (world.service.data / CURRENT).read_text().splitlines()]
    found = [(r["action"], r["object"]) for r in records if publication.id in str(r["object"])]
    number = "/v1/publications/{publication_id}/submissions"
    assert found == [
        ("POST /v1/publications", publication.id),
        (f"POST {number}", f"{publication.id}/1"),
        (f"POST {number}/{{number}}/score", f"{publication.id}/1"),
    ]


# ---- answers that are none -------------------------------------------------------------------------------------------


def test_a_server_that_answers_nonsense(world: World) -> None:
    for values in ({}, {"publication_id": "0" * 32, "envelope": {}, "trainers": []}, {"envelope": 3, "trainers": [1]}):
        with pytest.raises(ServerError):
            Publication.read(values)
    whole = {
        "publication_id": "0" * 32, "number": 1, "trainer": "a\x1b[2J", "state": "evaluated", "progress": 1.0,
        "recipe": {"learner": "ridge", "steps": 2, "ridge": 0.2}, "error": None, "model_file_id": None,
        "reply_file_id": None, "score": 93,
    }  # fmt: skip
    assert Submission.read(whole).trainer == "a[2J"
    for wrong in (
        {"score": 101}, {"score": "93"}, {"state": "decrypted"}, {"number": -1}, {"recipe": None},
        {"recipe": {"learner": "ridge", "steps": "2", "ridge": 0.2}}, {"recipe": {"learner": ["x"]}}, {"model_file_id": "../x"},
    ):  # fmt: skip
        with pytest.raises(ServerError):
            Submission.read(whole | wrong)
