"""Transfers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from cipherlens.service.errors import Invalid, TooLarge, not_found
from cipherlens.service.files import Slot
from cipherlens.service.pieces import Incoming
from cipherlens.service.routes.common import REFUSALS, Anyone, Owner, checked, services
from cipherlens.service.schemas import Declared, FileInfo, NewFile
from cipherlens.service.tokens import Caller, still_valid

router = APIRouter(prefix="/v1/files", tags=["files"], responses=REFUSALS)

LONGEST_INDEX = 9


@router.post("")
def declare(request: Request, caller: Anyone, wanted: NewFile) -> Declared:
    """Announce a file; says which of its pieces are missing. Announcing it again goes on with the upload."""
    return services(request).files.declare(caller, wanted)


@router.put("/{file_id}/pieces/{index}", status_code=204)
async def put_piece(request: Request, caller: Anyone, file_id: str, index: str) -> Response:
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
            await run_in_threadpool(_keep, request, caller, incoming)
    return Response(status_code=204)


async def _receive(request: Request, incoming: Incoming, slot: Slot) -> None:
    async for chunk in request.stream():
        if incoming.size + len(chunk) > slot.length:
            raise TooLarge(f"this piece has {slot.length} bytes, and more were sent")
        incoming.write(chunk)
    if incoming.size != slot.length:
        raise Invalid(f"this piece has {slot.length} bytes, and {incoming.size} were sent")
    incoming.require(slot.digest)


def _keep(request: Request, caller: Caller, incoming: Incoming) -> None:
    still_valid(services(request).database, caller)
    incoming.keep()


@router.post("/{file_id}/complete")
def complete(request: Request, caller: Anyone, file_id: str) -> FileInfo:
    """Put the pieces together and check the whole; only then the file is there."""
    return services(request).files.complete(caller, checked(file_id, "file"))


@router.get("/{file_id}/info")
def info(request: Request, caller: Anyone, file_id: str) -> FileInfo:
    """What is known of a file."""
    return services(request).files.info(caller, checked(file_id, "file"))


@router.get("/{file_id}", response_class=FileResponse)
def download(request: Request, caller: Owner, file_id: str) -> FileResponse:
    """The bytes of a file, or with `Range` some of them. The ETag is their SHA-256."""
    file, path = services(request).files.ready_path(caller, checked(file_id, "file"))
    if request.headers.get("range", "").count(",") > 0:
        raise Invalid("ask for one range at a time")
    return FileResponse(path, media_type="application/octet-stream", headers={"ETag": f'"{file.sha256}"'})


@router.delete("/{file_id}", status_code=204)
def delete(request: Request, caller: Owner, file_id: str) -> Response:
    """Remove a file that no data set and no unfinished job needs."""
    services(request).files.delete(caller, checked(file_id, "file"))
    return Response(status_code=204)
