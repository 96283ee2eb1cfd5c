"""Tokens: `clt_<id>_<secret>`. The secret is shown once; its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from cipherlens.errors import InputError
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database, Dataset, Publication, Tenant, Token
from cipherlens.service.errors import Unauthorized
from cipherlens.service.settings import Settings

OWNER_SPACE = "owner"
SECRET_BYTES = 32
DAY = 86_400.0
_FORM = re.compile("clt_([0-9a-f]{32})_([A-Za-z0-9_-]{43})", re.ASCII)
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)
_NOBODY = bytes(32)


class Scope(StrEnum):
    """What a token may do."""

    OWNER = "owner"
    CONTRIBUTOR = "contributor"
    TRAINER = "trainer"


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request.

    Attributes:
        tenant_id, token_id: who it is.
        dataset_id: the only data set of a contributor, None for all others.
        publication_id: the only publication of a trainer, None for all others.
    """

    tenant_id: str
    token_id: str
    dataset_id: str | None
    publication_id: str | None

    @property
    def is_owner(self) -> bool:
        """Whether everything of the tenant is there for it."""
        return self.dataset_id is None and self.publication_id is None

    @property
    def space(self) -> str:
        """Which of the tenant's files it sees: a contributor its own uploads, a trainer the models of its publication."""
        if self.publication_id is not None:
            return self.publication_id
        return OWNER_SPACE if self.dataset_id is None else self.token_id


@dataclass(frozen=True)
class ListedToken:
    """A token as the operator sees it. Times in seconds since 1970."""

    token_id: str
    tenant: str
    scope: str
    dataset_id: str | None
    publication_id: str | None
    note: str
    created: float
    expires: float | None
    revoked: float | None


def _digest(secret: str) -> bytes:
    # The secret has 256 random bits, so that a plain hash is as good as a slow one.
    return hashlib.sha256(secret.encode()).digest()


def create_token(
    database: Database,
    settings: Settings,
    tenant: str,
    scope: Scope,
    dataset_id: str | None = None,
    note: str = "",
    retention_days: float | None = None,
    *,
    publication_id: str | None = None,
    expires_days: float | None = None,
) -> str:
    """Make a token, and the tenant if it is new; returns the text to hand over, which cannot be shown again.

    retention_days: a new limit of the tenant; None leaves it as it is. expires_days: the token's life; None for no end.

    Raises:
        InputError: a name of other characters, a contributor without a data set or a trainer without a publication (or
            others with one), a data set that the tenant does not have, or a publication that does not name the tenant.
    """
    if not NAME.fullmatch(tenant):
        raise InputError("a tenant's name is 1 to 100 of letters, digits and . _ @ -, a letter or digit first")
    if (scope is Scope.TRAINER) != (publication_id is not None):
        raise InputError(
            "a trainer's token is for one publication, and no other token is; give --publication accordingly"
        )
    if (scope is Scope.CONTRIBUTOR) != (dataset_id is not None):
        raise InputError(
            "a contributor's token is for one data set, and an owner's for all; give --dataset accordingly"
        )
    if len(note) > 200 or not note.isprintable():
        raise InputError("a note is one line of at most 200 characters")
    secret, now = secrets.token_urlsafe(SECRET_BYTES), time.time()
    with database.writing() as session:
        owner = session.scalar(select(Tenant).where(Tenant.name == tenant))
        if dataset_id is not None:
            found = session.get(Dataset, dataset_id)
            if owner is None or found is None or found.tenant_id != owner.id:
                raise InputError(f"the tenant {tenant} has no data set {dataset_id}; the owner's client shows its id")
        if publication_id is not None:
            _check_trainer(session, publication_id, tenant, owner)
        if owner is None:
            owner = Tenant(name=tenant, quota_bytes=settings.quota_bytes, quota_jobs=settings.quota_jobs, created=now)
            session.add(owner)
            session.flush()
        if retention_days is not None:
            owner.retention_days = retention_days
        token = Token(
            tenant_id=owner.id, digest=_digest(secret), scope=scope.value, dataset_id=dataset_id,
            publication_id=publication_id, note=note, created=now,
            expires=None if expires_days is None else now + expires_days * DAY,
        )  # fmt: skip
        session.add(token)
        session.flush()
        _note(settings, "token create", token)
        return f"clt_{token.id}_{secret}"


def _check_trainer(session: Session, publication_id: str, name: str, tenant: Tenant | None) -> None:
    found = session.get(Publication, publication_id)
    if found is None or found.withdrawn is not None:
        raise InputError(f"there is no publication {publication_id}; the owner's client shows its id")
    if name not in json.loads(found.trainers):
        raise InputError(f"the owner of this publication has not named a trainer {name}; ask for it, or check the name")
    if tenant is not None and tenant.id == found.tenant_id:
        raise InputError(f"{name} is the owner of this publication, and trainers are other tenants")


def list_tokens(database: Database) -> Sequence[ListedToken]:
    """All tokens, oldest first."""
    with database.reading() as session:
        rows = session.execute(select(Token, Tenant.name).join(Tenant).order_by(Token.created)).all()
    return [
        ListedToken(t.id, name, t.scope, t.dataset_id, t.publication_id, t.note, t.created, t.expires, t.revoked)
        for t, name in rows
    ]


def revoke_token(database: Database, settings: Settings, token_id: str) -> None:
    """From now on the token counts for nothing, in running requests too. Once more changes nothing.

    Raises:
        InputError: there is no such token.
    """
    with database.writing() as session:
        token = session.get(Token, token_id)
        if token is None:
            raise InputError(f"there is no token {token_id}; `cipherlens token list` shows their ids")
        token.revoked = token.revoked or time.time()
        _note(settings, "token revoke", token)


def _note(settings: Settings, action: str, token: Token) -> None:
    Audit(settings.data).append(action, tenant=token.tenant_id, token=None, object=token.id, outcome="ok")


def authenticate(database: Database, authorization: str) -> Caller:
    """Who sends this `Authorization` header.

    Raises:
        Unauthorized: nobody that is known; the answer does not tell why.
    """
    refusal = Unauthorized("a valid token is needed: send the header Authorization: Bearer clt_…")
    scheme, _, text = authorization.partition(" ")
    match = _FORM.fullmatch(text)
    if scheme.lower() != "bearer" or match is None:
        raise refusal
    with database.reading() as session:
        token = session.get(Token, match[1])
    stored = _NOBODY if token is None else token.digest
    same = hmac.compare_digest(stored, _digest(match[2]))
    if token is None or not same or not _counts(token):
        raise refusal
    return Caller(token.tenant_id, token.id, token.dataset_id, token.publication_id)


def still_valid(database: Database, caller: Caller) -> None:
    """Ask again at the end of a long request. Raises Unauthorized when the token was revoked or ran out meanwhile."""
    with database.reading() as session:
        token = session.get(Token, caller.token_id)
    if token is None or not _counts(token):
        raise Unauthorized("this token was revoked or has run out; ask the operator for another")


def _counts(token: Token) -> bool:
    return token.revoked is None and (token.expires is None or time.time() < token.expires)
