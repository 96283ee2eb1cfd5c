"""What schemathesis makes of the frozen OpenAPI document: every endpoint, valid and invalid requests, each kind of caller.

No request may fail the service, and every answer must be one that the document describes: status, type, headers, body.
All checks that schemathesis has for an answer are made but one, `positive_data_acceptance`: text that a schema allows is
seldom the beginning of a file, and ids that exist seldom belong together.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance
from service_world import Material, Owner, in_process, make_material, manifest, split, token
from structlog.testing import capture_logs

from cipherlens.service.app import create_app
from cipherlens.service.database import Database
from cipherlens.service.jobs import Jobs
from cipherlens.service.pieces import Store
from cipherlens.service.settings import Settings
from cipherlens.service.tokens import Scope, create_token
from cipherlens.service.worker import Worker

DOCUMENT = json.loads((Path(__file__).resolve().parents[1] / "docs" / "openapi.json").read_text(encoding="utf-8"))
LABELS = sorted(
    (f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods),
    key=lambda label: ("DELETE" in label or "deletions" in label, label),
)
"""What deletes comes after all that needs what it deletes."""

CALLERS = ("nobody", "contributor", "trainer", "owner")
EXAMPLES = 10


@dataclass(frozen=True)
class World:
    """An application with something of every sort in it.

    Attributes:
        operations: what schemathesis found in the document, by label.
        tokens: by caller. known: ids by the names that they go under.
    """

    operations: Mapping[str, APIOperation]
    tokens: Mapping[str, str]
    known: Mapping[str, list[str]]

    def aim(self, value: Any, chance: random.Random, name: str = "") -> Any:
        """The same with ids of what is there, mostly, so that requests get past the search for it."""
        if isinstance(value, dict):
            return {key: self.aim(inner, chance, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.aim(inner, chance, name.removesuffix("s")) for inner in value]
        known = self.known.get(name)
        return chance.choice(known) if known and isinstance(value, str) and chance.random() < 0.7 else value


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, material: Material) -> Iterator[World]:
    data = tmp_path_factory.mktemp("contract") / "data"
    secret = token(data)
    options, database = Settings(data=data, threads=2), Database(data)
    with in_process(options, database) as http:
        owner = Owner(http, secret)
        parts = [owner.upload(part) for part in material.parts]
        keys, query, foreign = (
            owner.upload(material.keys, "evaluation_keys"), owner.upload(material.query), owner.upload(material.foreign)
        )  # fmt: skip
        half = owner.done("POST", "/v1/files", json=manifest(material.foreign_keys, "evaluation_keys"))["file_id"]
        owner.done("PUT", f"/v1/files/{half}/pieces/0", content=split(material.foreign_keys.read_bytes())[0])
        dataset = owner.done("POST", "/v1/datasets", json={"file_ids": parts})["dataset_id"]
        contributor = token(data, dataset=dataset)
        given_file = Owner(http, contributor).upload(material.parts[0])
        jobs = [owner.submit("train", kind="train", dataset_id=dataset, keys_file_id=keys)]
        worker, queue = Worker(options, "worker-1", database), Jobs(database, Store(data), options.lease_seconds)
        trained = queue.claim("worker-1")
        assert trained is not None
        worker.work(trained)
        model = owner.done("GET", f"/v1/jobs/{jobs[0]}")["result_file_id"]
        jobs.append(owner.submit("c", kind="classify", model_file_id=model, query_file_id=query, keys_file_id=keys))
        owner.done("POST", f"/v1/jobs/{jobs[1]}/cancel")  # and so that nobody waits for the end of it
        owner.done("DELETE", f"/v1/files/{foreign}")
        offer = {
            "dataset_id": dataset,
            "keys_file_id": keys,
            "holdout_file_id": query,
            "trainers": ["ada"],
            "submissions_each": 9,
        }
        published = owner.done("POST", "/v1/publications", json=offer, headers={"Idempotency-Key": "p"})[
            "publication_id"
        ]
        trainer = create_token(database, options, "ada", Scope.TRAINER, publication_id=published)
        recipe = {"learner": "linear_means"}
        number = Owner(http, trainer).done("POST", f"/v1/publications/{published}/submissions", json=recipe)["number"]
        receipt = owner.done("GET", "/v1/deletions")["receipts"][0]["receipt_id"]
    files = [*parts, keys, query, half, given_file, model]
    known = {
        "file_id": files, "dataset_id": [dataset], "job_id": jobs, "receipt_id": [receipt], "id": [*files, dataset],
        "index": ["0", "1"], "keys_file_id": [keys], "query_file_id": [query, parts[0]], "model_file_id": [model],
        "switching_key_file_id": [keys], "holdout_file_id": [query], "publication_id": [published], "number": [str(number)],
    }  # fmt: skip
    tokens = {"nobody": "", "contributor": contributor, "trainer": trainer, "owner": secret}
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.app = create_app(options, database)
    operations = {
        f"{found.method.upper()} {found.path}": found for found in (r.ok() for r in schema.get_all_operations())
    }
    with capture_logs():
        yield World(operations, tokens, known)
    database.close()


def broken(case: schemathesis.Case, part: ParameterLocation) -> bool:
    """Whether this part of a request was made to violate the document."""
    made = case.meta.components.get(part) if case.meta else None
    return made is not None and made.mode is GenerationMode.NEGATIVE


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("label", LABELS)
def test_answers_are_what_the_document_says(world: World, label: str, caller: str) -> None:
    operation = world.operations[label]
    authorization = {"Authorization": f"Bearer {world.tokens[caller]}"} if world.tokens[caller] else {}
    cases = operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, chance=st.randoms(use_true_random=False))
    def ask(case: schemathesis.Case, chance: random.Random) -> None:
        # What is wrong on purpose stays so: an id in the wrong place would make it right, and it would be accepted.
        if not broken(case, ParameterLocation.PATH):
            case.path_parameters = world.aim(case.path_parameters, chance)
        if not broken(case, ParameterLocation.BODY):
            case.body = world.aim(case.body, chance)
        answer = case.call(headers=authorization)
        case.validate_response(answer, headers=authorization, excluded_checks=[positive_data_acceptance])

    ask()
