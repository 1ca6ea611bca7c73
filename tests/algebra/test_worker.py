"""The killable algebra worker and its plain messages."""

from __future__ import annotations

import json
import time

import pytest
import sympy as sp
from sympy.core.function import AppliedUndef

from lensnet.algebra.transport import TransportError, decode, encode
from lensnet.algebra.worker import AlgebraFailed, AlgebraTimeout, Worker
from tests.algebra.functions import CASES

x, y = sp.symbols("x y", real=True)


@pytest.fixture(scope="module")
def worker():
    process = Worker()
    process.start()
    yield process
    process.stop()


def test_operations(worker: Worker) -> None:
    def run(*request):
        return worker.run(*request, limit=20.0)

    assert run("simplify", sp.sin(x) ** 2 + sp.cos(x) ** 2) == 1
    assert run("diff", sp.tanh(x), x) == 1 - sp.tanh(x) ** 2
    assert run("integrate", sp.exp(-(x**2)), x, -sp.oo, sp.oo) == sp.sqrt(sp.pi)
    assert run("integrate", 2 * x, x) == x**2
    assert run("limit", sp.sin(x) / x, x, sp.Integer(0)) == 1
    assert run("limit", 1 / x, x, sp.Integer(0), sp.Integer(-1)) == -sp.oo
    assert run("series", sp.tanh(x), x, sp.Integer(0), sp.Integer(4)) == x - x**3 / 3
    assert run("solve", sp.Eq(x**2, y), x) == [-sp.sqrt(y), sp.sqrt(y)]
    assert run("expand", (x + 1) ** 2) == x**2 + 2 * x + 1


def test_a_hanging_computation_is_killed_and_the_next_one_works(worker: Worker) -> None:
    endless = sp.exp(sp.sin(x) * sp.cos(x**2)) * sp.log(1 + sp.exp(x)) / (1 + sp.gamma(1 + x**2))
    start = time.perf_counter()
    with pytest.raises(AlgebraTimeout, match="integrate"):
        worker.run("integrate", endless, x, limit=0.5)
    assert time.perf_counter() - start < 5.0
    assert worker.run("simplify", x + x, limit=20.0) == 2 * x


def test_what_fails_says_so(worker: Worker) -> None:
    with pytest.raises(AlgebraFailed, match="no plain form"):
        worker.run("integrate", sp.exp(sp.exp(x) * sp.erf(x)), x, limit=20.0)
    with pytest.raises(KeyError, match="evaluate"):
        worker.run("evaluate", x)
    with pytest.raises(AlgebraFailed, match="Integral"):
        worker.run("simplify", sp.Integral(x, x))


def test_a_worker_that_died_is_replaced(worker: Worker) -> None:
    worker.run("simplify", x, limit=20.0)
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    assert worker.run("simplify", x + x, limit=20.0) == 2 * x


@pytest.mark.parametrize("name", CASES)
def test_messages_carry_formulas_unchanged(name: str) -> None:
    expression = CASES[name].expression
    assert decode(json.loads(json.dumps(encode(expression)))) == expression


def test_messages_carry_assumptions_floats_and_undefined_functions() -> None:
    positive = sp.Symbol("p", positive=True)
    gather = sp.Function("gather", real=True)
    expression = gather(positive) * sp.Float("0.1") + sp.Rational(10**40, 7) * sp.pi + sp.Symbol("z")
    back = decode(json.loads(json.dumps(encode(expression))))
    assert sp.simplify(back - expression) == 0
    (call,) = back.atoms(AppliedUndef)
    assert call.is_real and call.args[0].is_positive


@pytest.mark.parametrize(
    "message",
    [
        "__import__('os')",
        ["__import__", ["symbol", "os", []]],
        ["Lambda", ["symbol", "x", []]],
        ["sympify", ["symbol", "x", []]],
        [],
        [["Add"]],
        ["integer", "1; import os"],
        ["symbol"],
        ["constant", "os"],
        None,
        3,
    ],
)
def test_anything_else_is_refused(message: object) -> None:
    with pytest.raises(TransportError):
        decode(message)


def test_a_script_without_a_main_guard_may_use_the_worker(tmp_path) -> None:
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "import sympy\nfrom lensnet.algebra.worker import run\nx = sympy.Symbol('x')\n"
        "print(run('simplify', x + x, limit=20.0))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "2*x\n", done.stderr
