"""Deleting with everything derived, and the receipts."""

from __future__ import annotations

from fastapi import APIRouter, Request

from cipherlens.service.routes.common import REFUSALS, From, Owner, about, checked, services
from cipherlens.service.schemas import DeletionOrder, DeletionPlan, ReceiptAnswer, ReceiptList, Target
from cipherlens.wire.receipt import SignedReceipt

router = APIRouter(prefix="/v1/deletions", tags=["deletion"], responses=REFUSALS)


@router.post("/plan")
def plan(request: Request, caller: Owner, target: Target) -> DeletionPlan:
    """What would go with a file, a data set and its files, or everything under a key. Nothing is deleted."""
    return services(request).deletions.plan(caller, target)


@router.post("")
def delete(request: Request, caller: Owner, order: DeletionOrder) -> ReceiptAnswer:
    """Delete what a plan has shown, and cancel the jobs among it. Asked again it answers with the same receipt."""
    return _answer(request, services(request).deletions.delete(caller, order))


@router.get("")
def receipts(request: Request, caller: Owner, place: From) -> ReceiptList:
    """The deletions, also those by a retention limit, newest first, a portion at a time."""
    return services(request).deletions.list(caller, place.before)


@router.get("/{receipt_id}")
def receipt(request: Request, caller: Owner, receipt_id: str) -> ReceiptAnswer:
    """A receipt, signed with the key of `GET /v1/identity`."""
    return _answer(request, services(request).deletions.receipt(caller, checked(receipt_id, "receipt")))


def _answer(request: Request, signed: SignedReceipt) -> ReceiptAnswer:
    about(request, signed.receipt.id)
    values = signed.receipt.to_dict()
    return ReceiptAnswer.model_validate(
        {"receipt": {**values, "objects": list(values["objects"])}, "signature": signed.signature}
    )
