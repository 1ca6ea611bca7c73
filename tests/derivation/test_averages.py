"""Averages over a normal variable, derived by rule: against scipy's quadrature, and the classic numbers."""

import math

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad

from lensnet.algebra.tape import compile_tape
from lensnet.catalog.catalog import catalog
from lensnet.derivation.effects_of_function import closed_form, middle
from lensnet.derivation.gain import critical_gain, preserving_gain
from lensnet.derivation.normal_average import MU, Averager, Piece, S
from lensnet.derivation.normal_form import NORMAL_CDF, OutOfReach
from lensnet.derivation.pieces import cut
from lensnet.expressions.symbolic import X

# integrands that no component of the catalogue has, each with the rule it needs
INTEGRANDS = {
    "power": X**5 - 2 * X**2,
    "tilted": X**3 * sp.exp(X / 2 - X**2 / 3),
    "step": X**3 * NORMAL_CDF(2 * X - sp.Rational(1, 2)),
    "step squared": X**2 * NORMAL_CDF(X + 1) ** 2,
    "step times density": X * NORMAL_CDF(X) * sp.exp(-(X**2) / 2),
    "wave": X**2 * sp.cos(3 * X + 1),
    "wave squared, tilted": sp.sin(2 * X) ** 2 * sp.exp(-(X**2)),
    "hyperbolic": X * sp.sinh(X / 2),
}


def truth(function, mean, std, low=-np.inf, high=np.inf):
    def density(x):
        return math.exp(-((x - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))

    low, high = max(low, mean - 14 * std), min(high, mean + 14 * std)
    return quad(lambda x: function(x) * density(x), low, high, epsabs=1e-13, epsrel=1e-13, limit=400)[0]


@pytest.mark.parametrize("name", INTEGRANDS)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.4), (-1.2, 1.6)])
def test_average_on_the_whole_line(name, mean, std):
    expression = INTEGRANDS[name]
    derived = compile_tape(Averager().of([Piece(-sp.oo, sp.oo, expression)]))
    function = compile_tape(expression)
    assert derived({"mu": mean, "s": std}) == pytest.approx(
        truth(lambda x: float(function({"x": x})), mean, std), rel=1e-9, abs=1e-11
    )


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.4), (-1.2, 1.6)])
def test_average_on_an_interval(mean, std):
    expression = X**4 * sp.exp(X / 3 - X**2 / 5) + X
    derived = compile_tape(Averager().of([Piece(sp.Rational(-1, 2), sp.Integer(2), expression)]))
    function = compile_tape(expression)
    wanted = truth(lambda x: float(function({"x": x})), mean, std, -0.5, 2.0)
    assert derived({"mu": mean, "s": std}) == pytest.approx(wanted, rel=1e-9)


def test_what_the_rules_do_not_reach_is_refused():
    for expression in (sp.tanh(X), 1 / (1 + sp.exp(-X)), NORMAL_CDF(X) * NORMAL_CDF(2 * X), sp.exp(X**3)):
        with pytest.raises(OutOfReach):
            Averager().of([Piece(-sp.oo, sp.oo, expression)])


@pytest.mark.parametrize("parameters", [{"slope": 0.3}, {"slope": -0.4}])
def test_symbolic_parameters_hold_at_other_values(parameters):
    component = catalog()["leaky_relu"]
    form = closed_form(cut(component), "second_moment")
    slope, mean, std = parameters["slope"], 0.6, 1.3
    wanted = truth(lambda x: (x if x > 0 else slope * x) ** 2, mean, std)
    assert compile_tape(form.expression)({"mu": mean, "s": std, "slope": slope}) == pytest.approx(wanted, rel=1e-10)


def test_relu():
    f = cut(catalog()["relu"])
    second = closed_form(f, "second_moment")
    q = next(iter(second.centred.free_symbols))
    assert second.centred == q / 2
    assert closed_form(f, "backward_second_moment").centred == sp.Rational(1, 2)
    assert sp.simplify(closed_form(f, "mean").centred - sp.sqrt(q / (2 * sp.pi))) == 0
    assert preserving_gain(second.centred) == sp.sqrt(2)  # out of a solve


def test_erf_is_the_arcsine_formula():
    centred = closed_form(cut(catalog()["erf"]), "second_moment").centred
    q = next(iter(centred.free_symbols))
    for value in (0.1, 1.0, 9.0):
        assert float(centred.subs(q, value)) == pytest.approx(2 / math.pi * math.asin(2 * value / (1 + 2 * value)))


def test_gelu_keeps_its_signal_in_an_unstable_balance():
    gain = critical_gain(cut(catalog()["gelu"]).numeric)
    assert gain.gain == pytest.approx(1.53353, abs=1e-5)
    assert gain.slope == pytest.approx(1.144, abs=5e-4)
    assert gain.gradient == pytest.approx(0.455851 / 0.425221, abs=1e-5)
    assert not gain.everywhere


@pytest.mark.parametrize(("name", "slope"), [("tanh", 0.4611), ("elu", 0.891), ("silu", 1.173), ("square", 2.0)])
def test_slope_at_the_preserving_gain(name, slope):
    """Against a difference quotient of scipy's integral."""
    function = cut(catalog()[name]).numeric
    gain = critical_gain(function)

    def second(q):
        return truth(lambda x: float(function(x)) ** 2, 0.0, math.sqrt(q))

    assert gain.gain == pytest.approx(second(1.0) ** -0.5, rel=1e-8)
    assert gain.slope == pytest.approx(gain.gain**2 * (second(1.01) - second(0.99)) / 0.02, rel=2e-4)
    assert gain.slope == pytest.approx(slope, abs=1e-3)


def test_middle_of_a_shifted_odd_function():
    assert middle(cut(catalog()["sigmoid"]).numeric) == sp.Rational(1, 2)
    assert middle(cut(catalog()["tanh"]).numeric) == 0
    assert middle(cut(catalog()["gelu"]).numeric) is None


def test_general_form_reduces_to_the_centred_one():
    for name in ("gelu", "hardswish", "elu"):
        form = closed_form(cut(catalog()[name]), "second_moment")
        values = {"alpha": 1.0, "s": 1.3}
        general = compile_tape(form.expression)({**values, MU.name: 0.0})
        centred = compile_tape(form.centred)({**values, "q": 1.3**2})
        assert float(general) == pytest.approx(float(centred), rel=1e-12)
        assert S in form.expression.free_symbols
