"""How far encrypted training strays from exact arithmetic: the standard deviations that the simulation draws from.

An error polynomial whose coefficients have the standard deviation s leaves s sqrt(N / 2) in the real part of a slot.
Three kinds of errors matter here:

    fresh        s = 3.24, the centred binomial distribution of the errors that an encryption adds
    rounding     dividing by a prime rounds both parts: s^2 = (1 + 2N/3) / 12, the second term through the secret
    key switch   a digit of t primes with product D times a key's errors, divided by P: s^2 = sum t (D/P)^2 N 3.24^2/12

Where a value has the scale squared, key switches vanish; they count in the sums over positions, which come after the
first rescaling. Measured on N = 2^13 and 2^14, two and ten classes, all learners, by decrypting the intermediate
ciphertexts: fresh images within 1 %, scatter matrix, right-hand side and weights within a factor of three.
"""

from __future__ import annotations

from math import prod, sqrt

from cipherlens.learning.circuit import Circuit
from cipherlens.learning.twin import NoiseModel
from cipherlens.scheme.parameters import Parameters

ERROR = sqrt(10.5)
"""Standard deviation of the centred binomial distribution with 42 coins."""


def noise_model(circuit: Circuit, images: int) -> NoiseModel:
    """Errors of training on this many images.

    fresh and product are at the scales that the twin works with; scatter is the larger of what G and the means bear.
    """
    p, spec = circuit.parameters, circuit.spec
    fresh = _in_slot(p, ERROR) / p.scales[circuit.top]
    rounded = _in_slot(p, _rounding(p)) / circuit.target_scale
    switched = _in_slot(p, sqrt(_rounding(p) ** 2 + _switching(p, circuit.top - 1) ** 2)) / p.scales[circuit.top - 1]
    folded = switched * sqrt(circuit.layout.batch) / images
    if not spec.solves:
        return NoiseModel(fresh, sqrt(rounded**2 + (spec.classes * folded) ** 2), 0.0)
    # The scatter matrix is kept as gram/2 * G, and the iterate as u / right_hand_side[0].
    schedule = spec.schedule
    scatter = sqrt((2 * rounded / schedule.gram) ** 2 + folded**2)
    return NoiseModel(fresh, scatter, schedule.right_hand_side[0] * rounded)


def score_noise(circuit: Circuit) -> float:
    """Standard deviation of the error of one score that classifying adds to that of the weights.

    One column is copied to all B positions without a mask, so the errors of the empty ones come along: roundings of
    the right-hand side, which the solve amplified as it does where G is zero. Several columns are moved to positions
    of their own by key switches at a simple scale, and masked. D such errors add up in a score, weighted by features
    of mean square 1 at most.
    """
    p, spec = circuit.parameters, circuit.spec
    rounding = _in_slot(p, _rounding(p))
    if spec.columns == 1:
        gain = (1 - spec.schedule.residual_bound) / spec.ridge if spec.solves else 1.0
        variance = circuit.layout.batch * (gain * rounding / circuit.target_scale) ** 2
    else:
        switching = sqrt(rounding**2 + _in_slot(p, _switching(p, circuit.weight_level)) ** 2) / circuit.weight_scale
        variance = (spec.columns - 1) / 2 * switching**2 + (rounding / p.scales[circuit.score_level + 1]) ** 2
    additions = 2 << len(circuit.score_shifts)
    return sqrt(spec.dimension * variance + additions * (rounding / circuit.score_scale) ** 2)


def _in_slot(parameters: Parameters, coefficient: float) -> float:
    return coefficient * sqrt(parameters.ring_dimension / 2)


def _rounding(parameters: Parameters) -> float:
    return sqrt((1 + 2 * parameters.ring_dimension / 3) / 12)


def _switching(parameters: Parameters, level: int) -> float:
    primes, digit = parameters.primes[: level + 1], parameters.digit
    special = float(prod(parameters.special_primes))
    digits = [primes[i : i + digit] for i in range(0, len(primes), digit)]
    variance = sum(len(d) * (prod(d) / special) ** 2 for d in digits) * parameters.ring_dimension / 12
    return ERROR * sqrt(variance)
