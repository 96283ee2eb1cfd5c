"""The page at `/` in a real browser: what it shows with and without a token, and what it loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from browser import CHROMIUM, Browser, browser
from service_world import Material, Owner, in_process, make_material, token
from sqlalchemy import select

from cipherlens.service.database import Database, Job, Tenant, new_id
from cipherlens.service.jobs import Jobs
from cipherlens.service.paging import PORTION
from cipherlens.service.pieces import Store
from cipherlens.service.schemas import JobInfo
from cipherlens.service.settings import Settings
from cipherlens.service.worker import Worker

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")
INSIDE = "!document.getElementById('inside').hidden"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return make_material(tmp_path_factory.mktemp("material") / "files", images=512)


@dataclass
class World:
    """The part of a service that answers, in this process; the test is its worker."""

    settings: Settings
    database: Database
    http: Any

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.database, Store(self.settings.data), self.settings.lease_seconds)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = Settings(data=tmp_path_factory.mktemp("service"), retention_days=90)
    database = Database(settings.data)
    with in_process(settings, database) as http:
        yield World(settings, database, http)
    database.close()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def enter(tab: Browser, text: str) -> None:
    tab.value(f"document.getElementById('token').value = '{text}'; document.getElementById('enter').requestSubmit()")


def text(tab: Browser) -> str:
    found = tab.value("document.body.innerText")
    assert isinstance(found, str)
    return found


def test_files_of_the_page_say_what_may_be_loaded(service: World) -> None:
    for path in ("/", "/page.css", "/page.js"):
        answer = service.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "http:" not in answer.text
        assert "https:" not in answer.text
    assert service.http.get("/page.py").status_code == service.http.get("/index.html").status_code == 404


@needs_chromium
def test_without_a_token_there_is_health_and_version(service: World, tab: Browser) -> None:
    tab.show(service.url)
    tab.until("document.getElementById('health').textContent === 'Ready'")
    tab.until("document.getElementById('service').textContent.length === 32")
    assert "Cipherlens 0." in text(tab)
    assert "Jobs" not in text(tab)
    for wrong in ("clt_", "clt_" + "0" * 32 + "_" + "x" * 43):
        enter(tab, wrong)
        tab.until("!document.getElementById('refusal').hidden")
        assert "Jobs" not in text(tab)
        tab.value("document.getElementById('refusal').hidden = true")


@needs_chromium
def test_a_training_is_followed_live(service: World, tab: Browser, material: Material) -> None:
    secret = token(service.settings.data)
    owner = Owner(service.http, secret)
    files = [owner.upload(part) for part in material.parts]
    keys = owner.upload(material.keys, "evaluation_keys")
    dataset = owner.done("POST", "/v1/datasets", json={"file_ids": files})["dataset_id"]
    tab.show(service.url)
    enter(tab, secret)
    tab.until(f"{INSIDE} && document.querySelectorAll('.set').length === 1")
    shown = text(tab)
    assert "512 in 2 files" in shown
    assert shown.count("256 images") == 2
    assert "90 days" in shown
    view_agrees(owner, dataset, material)
    job = owner.submit("one", kind="train", dataset_id=dataset, keys_file_id=keys)
    tab.until(f"document.getElementById('jobs').innerText.includes('{job}')")
    assert first(tab) == {"state": "queued", "words": "Waits for its turn", "share": 0}
    claim = service.jobs.claim("w")
    assert claim is not None
    for share in (0.25, 0.75):
        service.jobs.renew(claim, "images", share)
        tab.until(f"document.querySelector('.job progress').value === {share}")
        assert f"{share:.0%}".replace("%", " % · images") in first(tab)["words"]
    service.jobs.fail(claim, "PlanError", "<b>this job</b> cannot be done")
    tab.until("document.querySelector('.job .state').textContent === 'failed'")
    assert first(tab)["words"] == "<b>this job</b> cannot be done"  # text, and no markup
    assert f"{service.url}/v1/jobs/{job}/events" in tab.requests
    again = owner.submit("two", kind="train", dataset_id=dataset, keys_file_id=keys)
    claim = service.jobs.claim("w")
    assert claim is not None
    Worker(service.settings, "w", service.database).work(claim)
    tab.until(f"document.querySelector('.job').innerText.includes('{again}')")
    tab.until("document.querySelector('.job .state').textContent === 'done'")
    stored = "JSON.stringify([Object.keys(localStorage), Object.keys(sessionStorage), document.cookie])"
    assert tab.value(stored) == '[[],[],""]'
    assert secret not in str(tab.value("document.documentElement.outerHTML"))
    assert not any(secret.rpartition("_")[2] in request for request in tab.requests)
    tab.value("document.getElementById('leave').click()")
    tab.until(f"!({INSIDE})")
    assert dataset not in str(tab.value("document.body.outerHTML"))


@needs_chromium
def test_a_job_that_waits_is_shown_however_many_are_newer(service: World, tab: Browser) -> None:
    secret = token(service.settings.data, "busy")
    with service.database.writing() as session:
        tenant = session.scalars(select(Tenant.id).where(Tenant.name == "busy")).one()
        for age in range(2 * PORTION):
            session.add(made_job(tenant, 1_700_000_000.0 - age, "done"))
        session.add(waiting := made_job(tenant, 1_600_000_000.0, "queued"))
        waiting_id = waiting.id
    tab.show(service.url)
    enter(tab, secret)
    tab.until(f"{INSIDE} && document.getElementById('jobs').innerText.includes('{waiting_id}')")
    tab.until("document.getElementById('queued').textContent === '1'")
    shown = text(tab)
    assert "Older jobs are not shown here" in shown
    assert "Older data sets" not in shown


def made_job(tenant: str, created: float, state: str) -> Job:
    return Job(
        id=new_id(), tenant_id=tenant, idempotency_key=new_id(), kind="train", recipe="{}", inputs="{}", state=state,
        stage=state, progress=0.0, deaths=0, created=created, started=created, finished=created if state == "done" else None,
    )  # fmt: skip


def first(tab: Browser) -> Any:
    """The newest job as it is shown."""
    return tab.value(
        "(job => ({state: job.querySelector('.state').textContent, words: job.querySelector('.words').textContent,"
        "share: job.querySelector('progress').value}))(document.querySelector('.job'))"
    )


def view_agrees(owner: Owner, dataset: str, material: Material) -> None:
    view = owner.done("GET", f"/v1/datasets/{dataset}/view")
    assert (view["images"], view["classes"], view["files"]) == (512, [256, 256], 2)
    assert view["size"] == sum(part.stat().st_size for part in material.parts)


def test_every_kind_of_job_has_a_name() -> None:
    script = (files("cipherlens.service") / "page" / "page.js").read_text(encoding="utf-8")
    names = re.search(r"const WORK = \{ (.*) \};", script)
    assert names is not None
    assert set(re.findall(r"(\w+):", names[1])) == set(get_args(JobInfo.model_fields["kind"].annotation))


@needs_chromium
def test_it_fits_a_phone_and_loads_nothing_from_elsewhere(service: World, tab: Browser, tmp_path: Path) -> None:
    secret = token(service.settings.data)
    for dark in (False, True):
        tab.show(service.url, 390, 844, dark=dark, phone=True)
        enter(tab, secret)
        tab.until(f"{INSIDE} && document.querySelectorAll('.set').length === 1")
        assert tab.value("document.documentElement.scrollWidth") == 390
        tab.picture(tmp_path / f"{dark}.png")
    assert (tmp_path / "True.png").read_bytes() != (tmp_path / "False.png").read_bytes()
    assert tab.complaints == []
    assert {request[: len(service.url)] for request in tab.requests if request.startswith("http")} == {service.url}
