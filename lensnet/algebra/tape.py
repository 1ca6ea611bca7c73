"""A formula compiled to a flat program that runs on numpy arrays or torch tensors.

    tape = compile_tape(g**2*q + sigma_b**2)
    tape({"g": 1.4, "q": field, "sigma_b": 0.1})          # numpy: float64, elementwise, broadcasting
    tape({"g": 1.4, "q": tensor, "sigma_b": 0.1})         # torch as soon as one value is a tensor; autograd works
    tape = compile_tape({"mean": ..., "second_moment": ...})
    tape(values)["mean"]                                   # shared subexpressions are computed once

Nothing is turned into source text and nothing is evaluated but an operation table (`numpy_backend`, `torch_backend`).
Functions known by name alone are special functions (`special.py`) or operators given at the call:
`tape(values, operators={"gather": function})`.

Out-of-domain values become nan or inf without a warning: who calls the tape reports them as findings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from lensnet.algebra.derivative import derivative
from lensnet.algebra.lowering import lower
from lensnet.algebra.numpy_backend import NUMPY_OPERATIONS
from lensnet.algebra.program import CALL, SPECIAL, TapeError
from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.expressions.tree import Expr, Number, Symbol

if TYPE_CHECKING:
    import sympy

__all__ = ["Formula", "Tape", "TapeError", "compile_tape", "formula_latex", "tree_of"]

Formula: TypeAlias = "Expr | sympy.Expr | int | float"
"""What a tape is compiled from."""

Operators = Mapping[str, Callable[..., Any]]
_ONLY = ""
_FLOAT64 = np.dtype(np.float64)
_CACHE_SIZE = 4096
_cache: OrderedDict[tuple[tuple[str, Expr], ...], Tape] = OrderedDict()


class Tape:
    """A compiled formula, or several that share work. Made by `compile_tape`; immutable, safe to share.

    Attributes:
        expressions: the formulas by output name (the name is "" when there is only one).
        symbols: names that a call must give values for.
        operators: names of functions that a call must give (undefined functions that are no special functions).
    """

    def __init__(self, expressions: Mapping[str, Expr]) -> None:
        self.expressions = dict(expressions)
        self._program = lower(self.expressions)
        self.symbols = tuple(name for name, _ in self._program.inputs)
        self.operators = self._program.operators
        self._single = tuple(self.expressions) == (_ONLY,)
        self._numpy_steps = tuple(
            (_numpy_step(operation), sources, target) for operation, sources, target in self._program.steps
        )
        self._torch_steps: tuple[tuple[Any, tuple[int, ...], int], ...] | None = None
        self._torch_constants: dict[Any, list[Any]] = {}

    def __call__(self, values: Mapping[str, Any], operators: Operators | None = None) -> Any:
        """Values of the formulas: an array for a single formula, a dict of arrays for several.

        An output has the broadcast shape of the symbols it contains; a formula without symbols gives a scalar.

        Args:
            values: number, float64 array or torch tensor by symbol name; other names are ignored.
            operators: functions by name for the formula's undefined functions.

        Raises:
            TapeError: a symbol or an operator is missing.
        """
        registers: list[Any] = list(self._program.initial)
        for name, index in self._program.inputs:
            try:
                value = values[name]
            except KeyError:
                raise self._missing(values) from None
            if type(value) is not float and getattr(value, "dtype", None) is not _FLOAT64:
                if _is_tensor(value):
                    return self.torch(values, operators)
                value = np.asarray(value, dtype=_FLOAT64)
            registers[index] = value
        steps = self._resolved(self._numpy_steps, operators) if self.operators else self._numpy_steps
        with np.errstate(all="ignore"):
            for function, sources, target in steps:
                if len(sources) == 2:
                    registers[target] = function(registers[sources[0]], registers[sources[1]])
                elif len(sources) == 1:
                    registers[target] = function(registers[sources[0]])
                else:
                    registers[target] = function(*[registers[source] for source in sources])
        return self._result([np.float64(v) if type(v) is float else v for v in self._outputs(registers)])

    def torch(self, values: Mapping[str, Any], operators: Operators | None = None) -> Any:
        """The same on torch: tensors of the type and device of the given tensors; differentiable.

        Half-precision tensors are computed in float32 and rounded once.

        Raises:
            TapeError: a symbol or an operator is missing, or a special function has no torch form.
        """
        from lensnet.algebra import torch_backend as backend

        if any(name not in values for name in self.symbols):
            raise self._missing(values)
        if self._torch_steps is None:
            self._torch_steps = tuple(
                (_torch_step(operation, backend.TORCH_OPERATIONS), sources, target)
                for operation, sources, target in self._program.steps
            )
        inputs, dtype, device, half = backend.as_tensors(values, self.symbols)
        key = (dtype, device)
        if key not in self._torch_constants:
            self._torch_constants[key] = backend.constants_for(self._program.initial, dtype, device)
        registers = list(self._torch_constants[key])
        for (_, index), value in zip(self._program.inputs, inputs, strict=True):
            registers[index] = value
        for function, sources, target in self._resolved(self._torch_steps, operators):
            registers[target] = function(*[registers[source] for source in sources])
        outputs = self._outputs(registers)
        return self._result([backend.cast_back(value, dtype) for value in outputs] if half else outputs)

    def derivative(self, symbol: Symbol | str) -> Tape:
        """The derivative by a symbol, almost everywhere: no Dirac deltas; the mean of both sides where max or min tie.

        Raises:
            TapeError: a position operator or a special function without a known derivative depends on the symbol.
        """
        slopes = {name: derivative(expression, symbol) for name, expression in self.expressions.items()}
        return compile_tape(slopes[_ONLY] if self._single else slopes)

    def to_latex(self) -> str:
        """The formulas in LaTeX, several as aligned `name = formula` lines."""
        if self._single:
            return formula_latex(self.expressions[_ONLY])
        lines = (rf"\mathrm{{{_escape(n)}}} &= {formula_latex(e)}" for n, e in self.expressions.items())
        return r"\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}"

    def __len__(self) -> int:
        """Number of operations."""
        return len(self._program.steps)

    def __repr__(self) -> str:
        formulas = ", ".join(f"{name} = {e}" if name else str(e) for name, e in self.expressions.items())
        return f"Tape({formulas}; {len(self)} operations)"

    def _outputs(self, registers: list[Any]) -> list[Any]:
        return [registers[index] for index in self._program.outputs]

    def _result(self, outputs: list[Any]) -> Any:
        return outputs[0] if self._single else dict(zip(self.expressions, outputs, strict=True))

    def _missing(self, values: Mapping[str, Any]) -> TapeError:
        absent = [name for name in self.symbols if name not in values]
        return TapeError(f"no value for {', '.join(absent)} in {self!r}")

    def _resolved(self, steps: tuple[Any, ...], operators: Operators | None) -> tuple[Any, ...]:
        if not self.operators:
            return steps
        given = operators or {}
        absent = [name for name in self.operators if name not in given]
        if absent:
            raise TapeError(f"no function given for {', '.join(absent)} in {self!r}")
        return tuple(
            (given[function] if isinstance(function, str) else function, sources, target)
            for function, sources, target in steps
        )


def compile_tape(expressions: Mapping[str, Formula] | Formula) -> Tape:
    """Compile one formula, or several by name that share common parts. Equal requests return the same tape.

    Symbols are told apart by name alone. Expressions come from the formula parser or from code, never from text.

    Raises:
        TapeError: a formula holds a complex number or a function that no back end knows.
    """
    single = not isinstance(expressions, Mapping)
    named = {_ONLY: expressions} if single else expressions
    key = tuple((name, tree_of(expression)) for name, expression in cast(Mapping[str, Any], named).items())
    tape = _cache.get(key)
    if tape is None:
        tape = Tape(dict(key))
        _cache[key] = tape
        if len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    else:
        _cache.move_to_end(key)
    return tape


def formula_latex(expression: Formula) -> str:
    """LaTeX of a formula; special functions in their own notation."""
    import sympy as sp

    replaced = sp.sympify(expression, strict=True)  # a text would be evaluated
    for call in replaced.atoms(sp.core.function.AppliedUndef):
        entry = SPECIAL_FUNCTIONS.get(call.func.__name__)
        if entry is not None:
            text = entry.latex.format(*(formula_latex(argument) for argument in call.args))
            replaced = replaced.xreplace({call: sp.Symbol(text)})
    return str(sp.latex(replaced))


def tree_of(formula: Formula) -> Expr:
    """The tree of a formula, which may be sympy's.

    Raises:
        TapeError: it holds a complex number or a function that no back end knows.
    """
    if isinstance(formula, Expr):
        return formula
    if isinstance(formula, int | float):
        return Number(formula)
    if not hasattr(formula, "free_symbols"):  # sympy is not imported to ask
        raise TapeError(f"a tape is compiled from an expression, not from {type(formula).__name__}")
    from lensnet.expressions.symbolic import NotExpressible, from_sympy

    try:
        return from_sympy(formula)
    except NotExpressible as error:
        raise TapeError(str(error)) from None
    except TypeError:
        raise TapeError(f"not a real number in {formula}") from None


def _numpy_step(operation: str) -> Any:
    if operation.startswith(CALL):
        return operation.removeprefix(CALL)
    if operation.startswith(SPECIAL):
        return SPECIAL_FUNCTIONS[operation.removeprefix(SPECIAL)].numpy
    return NUMPY_OPERATIONS[operation]


def _torch_step(operation: str, table: Mapping[str, Any]) -> Any:
    if operation.startswith(CALL):
        return operation.removeprefix(CALL)
    if operation.startswith(SPECIAL):
        raise TapeError(f"the special function {operation.removeprefix(SPECIAL)} has no torch form")
    return table[operation]


def _is_tensor(value: object) -> bool:
    return type(value).__module__.startswith("torch")


def _escape(name: str) -> str:
    return name.replace("_", r"\_")
