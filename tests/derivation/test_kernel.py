"""Kernels in symbols: the textbook forms, Price's theorem, and the moments level on the diagonal."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from lensnet.algebra.dual import dual, slope_of
from lensnet.catalog.functions import function_called
from lensnet.derivation.api import derive
from lensnet.derivation.kernel_average import K11, K12, K22, C, at_correlation, in_one_place, kernel_form
from lensnet.derivation.normal_form import OutOfReach

Q = sp.Symbol("q", positive=True)
TEXTBOOK = {
    "relu": (sp.sqrt(1 - C**2) + (sp.pi - sp.acos(C)) * C) / (2 * sp.pi),
    "abs": 2 / sp.pi * (sp.sqrt(1 - C**2) + C * sp.asin(C)),
    "sign": 2 / sp.pi * sp.asin(C),
    "erf": 2 / sp.pi * sp.asin(2 * C / 3),
    "sin": sp.exp(-1) * sp.sinh(C),
    "square": 1 + 2 * C**2,
}


@pytest.mark.parametrize("name", TEXTBOOK)
def test_forms_of_the_literature(name: str) -> None:
    form = at_correlation(kernel_form(function_called(name))[0])
    for c in (-0.7, 0.1, 0.95):
        assert float(form.subs(C, c)) == pytest.approx(float(TEXTBOOK[name].subs(C, c)), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "erf", "gelu", "exp(-x**2)", "x**3 + x"])
def test_prices_theorem_the_engine_and_the_diagonal(name: str) -> None:
    function = function_called(name)
    form = kernel_form(function)[0]
    slopes = kernel_form(slope_of(function))[0]
    moments = {0.4: 0.0, 2.0: 0.0}
    for k11, k22, k12 in ((1.3, 0.6, 0.5), (0.8, 2.5, -1.0)):
        at = {K11: k11, K22: k22, K12: k12}
        price = float(sp.diff(form, K12).subs(at))
        assert float(slopes.subs(at)) == pytest.approx(price, rel=1e-10)
        assert float(form.subs(at)) == pytest.approx(float(dual(function).kernel(k11, k22, k12).value), rel=1e-12)
    there = in_one_place(form, Q)
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    for q in moments:
        # split at 0 by symmetry: f(x)**2 + f(-x)**2 is even and, for these functions, smooth
        x = np.sqrt(q) * z
        square = float(weight @ (function(x) ** 2 + function(-x) ** 2)) / 2 / np.sqrt(2 * np.pi)
        assert float(there.subs(Q, q)) == pytest.approx(square, rel=1e-9)


def test_what_has_no_readable_form_says_how_it_is_computed() -> None:
    with pytest.raises(OutOfReach):
        kernel_form(function_called("tanh"))
    page = derive("tanh", "kernel")
    assert "Mehler" in str(page.steps) and not page.results
    long = derive("hardtanh", "kernel")
    assert "too long" in str(long.steps)


def test_the_page_of_relu_ends_at_the_moments_level() -> None:
    page = derive("relu", "kernel")
    assert page.expressions["gradient_kernel"] == sp.asin(K12 / (sp.sqrt(K11) * sp.sqrt(K22))) / (
        2 * sp.pi
    ) + sp.Rational(1, 4)
    assert str(page.steps).count("sympy: the same as what the moments level derives by itself") == 2
