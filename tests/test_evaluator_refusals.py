"""What an evaluator refuses by name: everything whose result would silently be wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from cipherlens.errors import CipherlensError, InputError, KeyMismatch, PlanError, RangeError
from cipherlens.owner.secret_key import SecretKey
from cipherlens.scheme.ciphertext import Ciphertext
from cipherlens.scheme.engine import Engine
from cipherlens.scheme.evaluator import Evaluator
from cipherlens.scheme.keys import RELINEARISATION, KeyRequest, conjugation, rotation
from cipherlens.scheme.linear_transform import LinearTransform
from cipherlens.scheme.parameters import Parameters
from cipherlens.scheme.polynomial import constant_plaintext
from cipherlens.scheme.types import Slots

PARAMETERS = Parameters.generate(1 << 13, 3, scale_bits=30, first_bits=40, special=2, special_bits=38, digit=2)
TOP = PARAMETERS.top_level


@dataclass(frozen=True)
class World:
    """An evaluator, a ciphertext at the top and at the lowest level, and a product that is not relinearised."""

    evaluator: Evaluator
    ones: Slots
    high: Ciphertext
    low: Ciphertext
    three: Ciphertext


@pytest.fixture(scope="module")
def world() -> World:
    owner = SecretKey.create(Engine(PARAMETERS))
    requests = [
        KeyRequest(RELINEARISATION, TOP),
        KeyRequest(conjugation(PARAMETERS), TOP),
        KeyRequest(rotation(PARAMETERS, 1), TOP),
        KeyRequest(rotation(PARAMETERS, 2), 1),
    ]
    evaluator = Evaluator(owner.engine, owner.evaluation_keys(requests))
    ones = np.ones(PARAMETERS.slots, np.complex128)
    high, low = (owner.encrypt(evaluator.encode(ones, level)) for level in (TOP, 0))
    return World(evaluator, ones, high, low, evaluator.tensor([high], [high]))


def transform(world: World, level: int = TOP, value: float = 1.0, scale: float | None = None) -> LinearTransform:
    return LinearTransform.encode(world.evaluator.engine, {0: value * world.ones, 1: world.ones}, level, scale=scale)


Use = Callable[[World], object]
REFUSED: dict[str, tuple[type[CipherlensError], str, Use]] = {
    # A third part would be dropped.
    "rotate three parts": (PlanError, "relinearise", lambda w: w.evaluator.rotate(w.three, 1)),
    "rotate three parts by nothing": (PlanError, "relinearise", lambda w: w.evaluator.rotate(w.three, 0)),
    "conjugate three parts": (PlanError, "relinearise", lambda w: w.evaluator.conjugate(w.three)),
    "hoisted, three parts": (
        PlanError, "relinearise", lambda w: w.evaluator.hoisted(w.three, [rotation(PARAMETERS, 1)]),
    ),
    "real of three parts": (PlanError, "relinearise", lambda w: w.evaluator.real(w.three)),
    "transform three parts": (
        PlanError, "relinearise", lambda w: transform(w).apply(w.evaluator, w.three),
    ),
    "multiply three parts": (PlanError, "relinearise", lambda w: w.evaluator.multiply(w.high, w.three)),
    "tensor of three parts": (PlanError, "relinearise", lambda w: w.evaluator.tensor([w.three], [w.three])),
    "relinearise two parts": (PlanError, "three parts", lambda w: w.evaluator.relinearise(w.high)),
    "parts mixed in a sum of products": (
        PlanError, "two and of three parts", lambda w: w.evaluator.plain_products(
            [w.three, w.evaluator.multiply_plain(w.high, w.evaluator.encode(w.ones, TOP))],
            [w.evaluator.encode(w.ones, TOP)] * 2,
        ),
    ),
    "parts mixed in a combination": (
        PlanError, "number of parts", lambda w: w.evaluator.combine([(w.high, 1.0), (w.three, 1.0)], w.three.scale),
    ),
    # Levels that there are not.
    "truncate to -1": (PlanError, "no level -1", lambda w: w.evaluator.truncate(w.high, -1)),
    "truncate to -2": (PlanError, "no level -2", lambda w: w.evaluator.truncate(w.high, -2)),
    "at level -1": (PlanError, "no level -1", lambda w: w.evaluator.at_level(w.high, -1)),
    "scale of -1": (PlanError, "no level -1", lambda w: w.evaluator.scale(-1)),
    "encode above the top": (PlanError, "no level 9; .* 0 to 3", lambda w: w.evaluator.encode(w.ones, 9)),
    "encode above the top at a scale": (PlanError, "no level 9", lambda w: w.evaluator.encode(w.ones, 9, 2.0**30)),
    "encode below 0": (PlanError, "no level -1", lambda w: w.evaluator.encode(w.ones, -1, 2.0**30)),
    "transform above the top": (PlanError, "no level 9", lambda w: transform(w, 9)),
    "rescale by nothing": (PlanError, "at least one prime, not 0", lambda w: w.evaluator.rescale(w.high, 0)),
    "rescale backwards": (PlanError, "at least one prime, not -1", lambda w: w.evaluator.rescale(w.high, -1)),
    "rescale too far": (PlanError, "no level is left", lambda w: w.evaluator.rescale(w.high, TOP + 1)),
    # Lengths.
    "nothing to add": (PlanError, "at least one", lambda w: w.evaluator.total([])),
    "nothing to combine": (PlanError, "at least one", lambda w: w.evaluator.combine([], 1.0)),
    "nothing to multiply": (PlanError, "not 0 and 0", lambda w: w.evaluator.tensor([], [])),
    "nothing to multiply by plaintexts": (PlanError, "not 0 and 0", lambda w: w.evaluator.plain_products([], [])),
    "more factors on one side": (PlanError, "not 2 and 1", lambda w: w.evaluator.tensor([w.high] * 2, [w.high])),
    "more ciphertexts than plaintexts": (
        PlanError, "not 2 and 1",
        lambda w: w.evaluator.plain_products([w.high] * 2, [w.evaluator.encode(w.ones, TOP)]),
    ),
    "too few slots": (InputError, "4096 slot values, not an array of", lambda w: w.evaluator.encode(w.ones[:7], 0)),
    "a short diagonal": (
        InputError, "4096 slot values", lambda w: LinearTransform.encode(w.evaluator.engine, {0: w.ones[:7]}, 0),
    ),
    # Scales and factors beyond the modulus: values would wrap around.
    "product at the lowest level": (
        PlanError, "does not fit the modulus of 2\\^40.0 at level 0",
        lambda w: w.evaluator.multiply(w.low, w.low, rescale=False),
    ),
    "tensor at the lowest level": (PlanError, "does not fit", lambda w: w.evaluator.tensor([w.low], [w.low])),
    "plain product at the lowest level": (
        PlanError, "does not fit", lambda w: w.evaluator.multiply_plain(w.low, w.evaluator.encode(w.ones, 0)),
    ),
    "transform at the lowest level": (
        PlanError, "does not fit", lambda w: transform(w, 0).apply(w.evaluator, w.low),
    ),
    "truncate a pending product": (PlanError, "does not fit", lambda w: w.evaluator.truncate(w.three, 0)),
    "combine to a scale beyond": (
        PlanError, "does not fit", lambda w: w.evaluator.combine([(w.low, 1.0)], w.low.scale * 2.0**12),
    ),
    "combine to no scale": (PlanError, "does not fit", lambda w: w.evaluator.combine([(w.high, 1.0)], 0.0)),
    "combine with infinity": (
        RangeError, "factor inf .* level 3", lambda w: w.evaluator.combine([(w.high, np.inf)], w.high.scale),
    ),
    "combine with nan": (RangeError, "factor nan", lambda w: w.evaluator.combine([(w.high, np.nan)], w.high.scale)),
    "combine with 1e300": (
        RangeError, "reaches half the modulus", lambda w: w.evaluator.combine([(w.high, 1e300)], w.high.scale),
    ),
    "combine at the lowest level": (
        RangeError, "reaches half", lambda w: w.evaluator.combine([(w.low, 2.0**39.5)], w.low.scale),
    ),
    "at_level with infinity": (RangeError, "factor inf", lambda w: w.evaluator.at_level(w.high, 0, np.inf)),
    "a factor that the scale cannot express": (
        PlanError, "0.3 is no whole number", lambda w: w.evaluator.combine([(w.high, 0.3)], w.high.scale),
    ),
    "a scale below the ciphertext's": (
        PlanError, "cannot express", lambda w: w.evaluator.combine([(w.high, 1.0)], w.high.scale / 4),
    ),
    "a constant beyond": (
        RangeError, "reaches half", lambda w: constant_plaintext(w.evaluator.engine, 600.0, 0, w.low.scale),
    ),
    "an infinite constant": (
        RangeError, "factor inf", lambda w: constant_plaintext(w.evaluator.engine, np.inf, 0, w.low.scale),
    ),
    "encode at scale 0": (PlanError, "positive number, not 0", lambda w: w.evaluator.encode(w.ones, 0, 0.0)),
    "encode at scale -1": (PlanError, "positive number", lambda w: w.evaluator.encode(w.ones, 0, -1.0)),
    "encode at scale nan": (PlanError, "positive number", lambda w: w.evaluator.encode(w.ones, 0, np.nan)),
    "a large diagonal at level 0": (RangeError, "half the modulus of 2\\^40.0 at level 0", lambda w: transform(w, 0, 1e6)),
    "a huge diagonal": (RangeError, "cannot be encoded", lambda w: transform(w, value=2.0**44)),
    "a diagonal that is not finite": (RangeError, "cannot be encoded", lambda w: transform(w, value=np.nan)),
    # Keys of a lower level.
    "rotate above the key": (KeyMismatch, "up to level 1, not 3", lambda w: w.evaluator.rotate(w.high, 2)),
    "hoisted above the key": (
        KeyMismatch, "up to level 1", lambda w: w.evaluator.hoisted(w.high, [rotation(PARAMETERS, 2)]),
    ),
    "transform above the key": (
        KeyMismatch, "up to level 1",
        lambda w: LinearTransform.encode(w.evaluator.engine, {2: w.ones}, TOP).apply(w.evaluator, w.high),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(world: World, case: str) -> None:
    error, words, use = REFUSED[case]
    with pytest.raises(error, match=words) as caught:
        use(world)
    assert type(caught.value) is error and "\n" not in str(caught.value)


def test_what_is_next_to_the_limits_works(world: World) -> None:
    """The refusals begin where results go wrong, not before."""
    e, w = world.evaluator, world
    assert e.combine([(w.low, 2.0**38)], w.low.scale).level == 0
    assert e.combine([(w.high, 3.0)], w.high.scale).scale == w.high.scale
    assert e.truncate(w.three, 1).level == 1
    assert e.multiply(e.truncate(w.high, 1), e.truncate(w.high, 1), rescale=False).level == 1
    assert e.rotate(e.at_level(w.high, 1), 2).level == 1
    assert constant_plaintext(e.engine, 500.0, 0, w.low.scale).limbs == 1


def test_negatives_hold_no_negative_zero(world: World) -> None:
    e = world.evaluator
    zero = e.subtract(world.high, world.high)
    for ciphertext in (e.negate(zero), e.negate(world.high), e.combine([(zero, -3.0)], zero.scale)):
        assert not np.signbit(ciphertext.data[ciphertext.data == 0]).any()
    assert e.negate(zero).data.tobytes() == zero.data.tobytes()
