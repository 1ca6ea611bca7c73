"""The tables of names that formulas may use agree with what computes them."""

import importlib
import pkgutil
import subprocess
import sys

from lensnet.language.symbols import OPERATORS, SPECIAL


def test_special_functions_are_those_of_the_algebra():
    import lensnet.algebra
    from lensnet.algebra.special import SPECIAL_FUNCTIONS

    for module in pkgutil.iter_modules(lensnet.algebra.__path__):
        importlib.import_module(f"lensnet.algebra.{module.name}")  # each registers its own
    assert {name: function.arity for name, function in SPECIAL_FUNCTIONS.items()} == SPECIAL


def test_no_name_is_both_an_operator_and_a_special_function():
    assert not set(OPERATORS) & set(SPECIAL)


def test_reading_specs_imports_neither_sympy_nor_numpy_nor_torch():
    text = "{network: n, input: {source: digits}, body: [{component: relu}], define: {s: {function: x*sigmoid(2*x)}}}"
    code = f"""
import sys
from lensnet.language.loading import load_network_spec
from lensnet.language.source import Source
load_network_spec(Source("n", "{text}"))
print(*sorted({{"sympy", "numpy", "torch", "networkx", "scipy"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
