"""From a sympy expression to a flat list of operations (static single assignment, no source text).

Equal subexpressions become one operation: every operation is numbered by its name and arguments, which also finds what
`sympy.cse` would miss, sharing that appears only after an expression has been put in its stable form (`stable.py`).
Operations whose arguments are all constant are evaluated here and now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational
from sympy.logic.boolalg import ITE, And, BooleanFalse, BooleanTrue, Not, Or

from lensnet.algebra import stable
from lensnet.algebra.constants import number
from lensnet.algebra.numpy_backend import NUMPY_OPERATIONS
from lensnet.algebra.program import CALL, SPECIAL, Program, TapeError, allocate
from lensnet.algebra.special import SPECIAL_FUNCTIONS

_COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "eq", "ne", "and", "or"})
_LARGEST_UNROLLED_POWER = 64

_FUNCTIONS: dict[type, str] = {
    sp.exp: "exp",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.tan: "tan",
    sp.asin: "asin",
    sp.acos: "acos",
    sp.atan: "atan",
    sp.atan2: "atan2",
    sp.sinh: "sinh",
    sp.cosh: "cosh",
    sp.tanh: "tanh",
    sp.asinh: "asinh",
    sp.acosh: "acosh",
    sp.atanh: "atanh",
    sp.erf: "erf",
    sp.erfc: "erfc",
    sp.erfinv: "erfinv",
    sp.gamma: "gamma",
    sp.loggamma: "loggamma",
    sp.digamma: "digamma",
    sp.polygamma: "polygamma",
    sp.Abs: "abs",
    sp.sign: "sign",
    sp.floor: "floor",
    sp.ceiling: "ceiling",
}
_RELATIONS: dict[type, str] = {
    sp.StrictGreaterThan: "gt",
    sp.GreaterThan: "ge",
    sp.StrictLessThan: "lt",
    sp.LessThan: "le",
    sp.Eq: "eq",
    sp.Ne: "ne",
}
_FILL_CANDIDATES = (0.5, -0.5, 1.5, -1.5, 0.05, -0.05, 7.0, -7.0, 60.0, -60.0)


def lower(expressions: Mapping[str, sp.Expr]) -> Program:
    """The program that computes all expressions.

    Raises:
        TapeError: an expression holds a function or constant that no back end knows.
    """
    lowering = Lowering()
    return lowering.finish([lowering.expression(expression) for expression in expressions.values()])


class Lowering:
    """One compilation: emits operations, numbers them by value, keeps the memo of sympy subexpressions."""

    def __init__(self) -> None:
        self._count = 0
        self._inputs: dict[str, int] = {}
        self._constants: dict[int, Any] = {}
        self._constant_slots: dict[Any, int] = {}
        self._steps: list[tuple[str, tuple[int, ...], int]] = []
        self._numbering: dict[tuple[str, tuple[int, ...]], int] = {}
        self._memo: dict[sp.Basic, int] = {}
        self._renamed: dict[str, int] = {}

    # --- emitting -----------------------------------------------------------------------------------------------

    def constant(self, value: float | bool) -> int:
        key = (type(value), value, np.signbit(value))
        if key not in self._constant_slots:
            slot = self._new_slot()
            self._constants[slot] = value
            self._constant_slots[key] = slot
        return self._constant_slots[key]

    def emit(self, operation: str, *arguments: int) -> int:
        """The slot that holds `operation(arguments)`; an equal earlier operation is reused, constants are folded."""
        folded = self._simplified(operation, arguments)
        if folded is not None:
            return folded
        if operation in _COMMUTATIVE:
            arguments = tuple(sorted(arguments))
        key = (operation, arguments)
        if key not in self._numbering:
            slot = self._new_slot()
            self._steps.append((operation, arguments, slot))
            self._numbering[key] = slot
        return self._numbering[key]

    def scaled(self, slot: int, factor: float) -> int:
        return self.emit("neg", slot) if factor == -1.0 else self.emit("mul", slot, self.constant(factor))

    def shifted(self, slot: int, offset: float) -> int:
        return self.emit("add", slot, self.constant(offset))

    def power(self, slot: int, exponent: int) -> int:
        """Positive integer power by repeated squaring, so that x**2 and x**4 share work."""
        if exponent > _LARGEST_UNROLLED_POWER:
            return self.emit("pow", slot, self.constant(float(exponent)))
        result: int | None = None
        square = slot
        while exponent:
            if exponent & 1:
                result = square if result is None else self.emit("mul", result, square)
            exponent >>= 1
            if exponent:
                square = self.emit("square", square)
        assert result is not None
        return result

    def _new_slot(self) -> int:
        self._count += 1
        return self._count - 1

    def _simplified(self, operation: str, arguments: tuple[int, ...]) -> int | None:
        values = [self._constants.get(slot) for slot in arguments]
        if operation == "where" and values[0] is not None:
            return arguments[1] if values[0] else arguments[2]
        if operation == "mul":
            for value, other in ((values[0], arguments[1]), (values[1], arguments[0])):
                if value == 1.0:
                    return other
        if operation in ("add", "sub") and values[1] == 0.0:
            return arguments[0]
        if operation == "add" and values[0] == 0.0:
            return arguments[1]
        if operation == "div" and values[1] == 1.0:
            return arguments[0]
        if any(value is None for value in values) or operation.startswith(CALL):
            return None
        with np.errstate(all="ignore"):
            value = _numpy_function(operation)(*values)
        return self.constant(bool(value) if isinstance(value, bool | np.bool_) else float(value))

    # --- sympy --------------------------------------------------------------------------------------------------

    def expression(self, expression: sp.Basic) -> int:
        slot = self._memo.get(expression)
        if slot is None:
            slot = self._memo[expression] = self._lower(expression)
        return slot

    def _lower(self, expression: sp.Basic) -> int:
        if isinstance(expression, sp.Symbol):
            return self._symbol(expression.name)
        if isinstance(expression, BooleanTrue | BooleanFalse):
            return self.constant(bool(expression))
        if expression.is_Number or expression.is_NumberSymbol or expression is sp.S.ComplexInfinity:
            return self.constant(number(expression))
        if expression is sp.I:
            # sqrt(-2) in a branch: not real, hence no number, there and nowhere else
            return self.constant(float("nan"))
        if isinstance(expression, sp.Add):
            return stable.lower_sum(self, expression)
        if isinstance(expression, sp.Mul | sp.Pow):
            return stable.lower_product(self, expression)
        if isinstance(expression, sp.log):
            return stable.lower_log(self, expression.args[0])
        if isinstance(expression, sp.Max | sp.Min):
            return self._extremum("maximum" if isinstance(expression, sp.Max) else "minimum", expression)
        if isinstance(expression, sp.Heaviside):
            return self._heaviside(expression)
        if isinstance(expression, sp.Piecewise):
            return self._piecewise(expression)
        if isinstance(expression, Relational | And | Or | Not | ITE):
            return self._condition(expression)
        if isinstance(expression, AppliedUndef):
            return self._named(expression)
        name = _FUNCTIONS.get(type(expression))
        if name is None:
            raise TapeError(f"no numeric form for {type(expression).__name__}: {expression}")
        return self.emit(name, *(self.expression(argument) for argument in expression.args))

    def _symbol(self, name: str) -> int:
        if name in self._renamed:
            return self._renamed[name]
        if name not in self._inputs:
            self._inputs[name] = self._new_slot()
        return self._inputs[name]

    def _extremum(self, operation: str, expression: sp.Basic) -> int:
        # constants last, symbols in sympy's order: the same pairing as in the derivative (derivative.py)
        slots = [self.expression(argument) for argument in extremum_arguments(expression)]
        result = slots[0]
        for slot in slots[1:]:
            result = self.emit(operation, result, slot)
        return result

    def _heaviside(self, expression: sp.Basic) -> int:
        argument = self.expression(expression.args[0])
        at_zero = expression.args[1]
        if at_zero == sp.S.Half:
            return self.emit("step", argument)
        zero = self.constant(0.0)
        tie = self.emit("where", self.emit("eq", argument, zero), self.expression(at_zero), zero)
        return self.emit("where", self.emit("gt", argument, zero), self.constant(1.0), tie)

    def _condition(self, expression: sp.Basic) -> int:
        if isinstance(expression, Not):
            return self.emit("not", self.expression(expression.args[0]))
        slots = [self.expression(argument) for argument in expression.args]
        if isinstance(expression, ITE):
            chosen = self.emit("and", slots[0], slots[1])
            return self.emit("or", chosen, self.emit("and", self.emit("not", slots[0]), slots[2]))
        if isinstance(expression, Relational):
            name = _RELATIONS.get(type(expression))
            if name is None:
                raise TapeError(f"no numeric form for the condition {expression}")
            return self.emit(name, *slots)
        operation = "and" if isinstance(expression, And) else "or"
        result = slots[0]
        for slot in slots[1:]:
            result = self.emit(operation, result, slot)
        return result

    def _named(self, expression: sp.Basic) -> int:
        name = expression.func.__name__
        slots = [self.expression(argument) for argument in expression.args]
        entry = SPECIAL_FUNCTIONS.get(name)
        if entry is None:
            return self.emit(CALL + name, *slots)
        if len(slots) != entry.arity:
            raise TapeError(f"{name} takes {entry.arity} arguments, not {len(slots)}")
        return self.emit(SPECIAL + name, *slots)

    def _piecewise(self, expression: sp.Basic) -> int:
        pairs = [(branch.args[0], branch.args[1]) for branch in expression.args]
        masks: list[int] = []
        untaken: int | None = None
        for _, condition in pairs:
            here = self.expression(condition)
            masks.append(here if untaken is None else self.emit("and", here, untaken))
            outside = self.emit("not", here)
            untaken = outside if untaken is None else self.emit("and", untaken, outside)
        result = self.constant(float("nan"))
        for (branch, condition), mask in zip(reversed(pairs), reversed(masks), strict=True):
            value = self._guarded_branch(branch, mask)
            # later branches are the fallback, so the plain condition selects
            result = self.emit("where", self.expression(condition), value, result)
        return result

    def _guarded_branch(self, branch: sp.Basic, mask: int) -> int:
        """The branch computed from inputs that are replaced by a harmless constant where the branch is not taken.

        Without it a branch such as exp(x) - 1 for x <= 0 sends inf * 0 = NaN into the gradient at x = 1000.
        """
        if not branch.free_symbols or branch.is_polynomial():
            return self.expression(branch)
        fill = _harmless_point(branch)
        if fill is None:
            return self.expression(branch)
        outer, names = (self._memo, self._renamed), {symbol.name for symbol in branch.free_symbols}
        self._memo, self._renamed = {}, dict(self._renamed)
        guarded = {name: self.emit("guard", mask, self._symbol(name), self.constant(fill)) for name in sorted(names)}
        self._renamed.update(guarded)
        slot = self.expression(branch)
        self._memo, self._renamed = outer
        return slot

    def finish(self, outputs: list[int]) -> Program:
        """The program of the given outputs, without what none of them needs."""
        return allocate(self._inputs, self._constants, self._steps, outputs)


def extremum_arguments(expression: sp.Basic) -> list[sp.Basic]:
    """Arguments of Max or Min in the order in which they are paired."""
    return sorted(expression.args, key=lambda argument: (bool(argument.is_number), sp.default_sort_key(argument)))


def _harmless_point(branch: sp.Basic) -> float | None:
    """A value for every symbol of the branch at which the branch and its neighbourhood are finite."""
    lowering = Lowering()
    program = lowering.finish([lowering.expression(branch)])
    if program.operators:
        return None
    for candidate in _FILL_CANDIDATES:
        around = np.array([candidate - 1e-3, candidate, candidate + 1e-3])
        registers = list(program.initial)
        for _, index in program.inputs:
            registers[index] = around
        with np.errstate(all="ignore"):
            for operation, sources, target in program.steps:
                registers[target] = _numpy_function(operation)(*(registers[source] for source in sources))
        value = np.asarray(registers[program.outputs[0]], dtype=float)
        if np.all(np.isfinite(value)) and np.ptp(value) < 1e3:
            return candidate
    return None


def _numpy_function(operation: str) -> Any:
    if operation.startswith(SPECIAL):
        return SPECIAL_FUNCTIONS[operation.removeprefix(SPECIAL)].numpy
    return NUMPY_OPERATIONS[operation]
