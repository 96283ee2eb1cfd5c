"""Transfers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from cipherlens.service.errors import BadRange, Invalid, Refusal, TooLarge, not_found
from cipherlens.service.files import Slot
from cipherlens.service.pieces import CHUNK, Incoming
from cipherlens.service.routes.common import (
    REFUSALS,
    Answers,
    Anyone,
    Owner,
    Recipient,
    Sender,
    about,
    checked,
    services,
)
from cipherlens.service.schemas import Declared, Failure, FileFilter, FileInfo, FileList, NewFile
from cipherlens.service.tokens import Caller, still_valid

router = APIRouter(prefix="/v1/files", tags=["files"], responses=REFUSALS)

LONGEST_INDEX = 9
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
PARTS: Answers = {
    200: {"description": "The whole file", "content": BYTES},
    206: {"description": "The bytes that were asked for", "content": BYTES},
    416: {"model": Failure},
}
PIECE: dict[str, Any] = {"requestBody": {"required": True, "content": BYTES}}
"""What the OpenAPI document says of bytes in answers and bodies, which no model describes."""

_RANGE = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)

Part = Annotated[str | None, Header(alias="Range", json_schema_extra={"pattern": f"^{_RANGE.pattern}$"})]


@router.post("")
def declare(request: Request, caller: Sender, wanted: NewFile) -> Declared:
    """Announce a file; says which of its pieces are missing. Announcing it again goes on with the upload."""
    declared = services(request).files.declare(caller, wanted)
    about(request, declared.file_id)
    return declared


@router.get("")
def listing(request: Request, caller: Owner, wanted: Annotated[FileFilter, Query()]) -> FileList:
    """The files, newest first, a portion at a time; with `sha256` those of these bytes, of which each sender has one."""
    return services(request).files.list(caller, wanted.sha256, wanted.before)


@router.put("/{file_id}/pieces/{index}", status_code=204, openapi_extra=PIECE)
async def put_piece(request: Request, caller: Sender, file_id: str, index: str) -> Response:
    """Send one piece, as it is. Sending it again changes nothing."""
    if not (index.isascii() and index.isdigit() and len(index) <= LONGEST_INDEX):
        raise not_found("piece")
    files = services(request).files
    slot = await run_in_threadpool(files.slot, caller, checked(file_id, "file"), int(index))
    if slot.target is None:
        async for _ in request.stream():
            pass  # a retry of what arrived before; its size is bounded as that of every body
    else:
        with Incoming(slot.target) as incoming:
            await _receive(request, incoming, slot)
            await run_in_threadpool(_keep, request, caller, incoming, slot)
    return Response(status_code=204)


async def _receive(request: Request, incoming: Incoming, slot: Slot) -> None:
    async for chunk in request.stream():
        if incoming.size + len(chunk) > slot.length:
            raise TooLarge(f"this piece has {slot.length} bytes, and more were sent")
        incoming.write(chunk)
    if incoming.size != slot.length:
        raise Invalid(f"this piece has {slot.length} bytes, and {incoming.size} were sent")
    incoming.require(slot.digest)


def _keep(request: Request, caller: Caller, incoming: Incoming, slot: Slot) -> None:
    still_valid(services(request).database, caller)
    incoming.keep()
    services(request).files.arrived(slot)


@router.post("/{file_id}/complete")
def complete(request: Request, caller: Sender, file_id: str) -> FileInfo:
    """Put the pieces together and check the whole; only then the file is there.

    503 with `Retry-After` while that is under way for another request.
    """
    return services(request).files.complete(caller, checked(file_id, "file"))


@router.get("/{file_id}/info")
def info(request: Request, caller: Anyone, file_id: str) -> FileInfo:
    """What is known of a file."""
    return services(request).files.info(caller, checked(file_id, "file"))


@router.get("/{file_id}", response_class=StreamingResponse, responses=PARTS)
def download(request: Request, caller: Recipient, file_id: str, part: Part = None) -> StreamingResponse:
    """The bytes of a file, or with `Range` some of them. The ETag is their SHA-256."""
    file, opened = services(request).files.open(caller, checked(file_id, "file"))
    try:
        start, stop = (0, file.size) if part is None else _range(part, file.size)
    except Refusal:
        opened.close()
        raise
    headers = {"ETag": f'"{file.sha256}"', "Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    return StreamingResponse(
        _chunks(opened, start, stop), 200 if part is None else 206, headers, "application/octet-stream"
    )


def _range(text: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last. Raises Invalid and BadRange."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        raise Invalid("ask for one range of bytes, as Range: bytes=0-4194303")
    if match[1]:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= stop:
        raise BadRange(f"the file has {size} bytes, and none of these")
    return start, stop


def _chunks(opened: io.FileIO, start: int, stop: int) -> Iterator[bytes]:
    with opened:
        opened.seek(start)
        while start < stop and (chunk := opened.read(min(CHUNK, stop - start))):
            yield chunk
            start += len(chunk)


@router.delete("/{file_id}", status_code=204)
def delete(request: Request, caller: Recipient, file_id: str) -> Response:
    """Remove a file that no data set, publication or unfinished job needs; the header `Receipt` names the receipt's id."""
    receipt = services(request).deletions.delete_file(caller, checked(file_id, "file")).receipt
    return Response(status_code=204, headers={"Receipt": receipt.id})
