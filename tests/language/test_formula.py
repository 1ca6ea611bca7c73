"""What formulas mean: values, exactness, names, columns of errors."""

import math
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from lensnet.language.formula import (
    FUNCTIONS,
    FormulaError,
    check_condition,
    check_formula,
    evaluate_number,
    is_name,
    parse_condition,
    parse_formula,
)
from tests.language.marked import marked

X = sympy.Symbol("x", real=True)
Y = sympy.Symbol("y", real=True)
PHI = (1 + sympy.erf(X / sympy.sqrt(2))) / 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x*Phi(x)", X * PHI),
        ("x + 2*y - 3", X + 2 * Y - 3),
        ("-x**2", -(X**2)),
        ("2**-x", 2 ** (-X)),
        ("x**y**2", X ** (Y**2)),
        ("x/y/2", X / Y / 2),
        ("x - y - 1", X - Y - 1),
        ("x/(y/2)", 2 * X / Y),
        ("+x", X),
        ("--x", X),
        ("0.1*x", sympy.Rational(1, 10) * X),
        ("1e-3 + x", sympy.Rational(1, 1000) + X),
        ("2.50*x", sympy.Rational(5, 2) * X),
        ("pi*x", sympy.pi * X),
        ("exp(1)", sympy.E),
        ("sqrt(8)", 2 * sympy.sqrt(2)),
        ("x**0.5", sympy.sqrt(X)),
        ("where(x > 0, x, 0.1*x)", sympy.Piecewise((X, X > 0), (X / 10, True))),
        ("where(x <= y, 1, 2)", sympy.Piecewise((1, X <= Y), (2, True))),
        ("relu(x)", sympy.Max(X, 0)),
        ("max(x, y, 1)", sympy.Max(X, Y, 1)),
        ("min(x, 6)", sympy.Min(X, 6)),
        ("clip(x, -1, 1)", sympy.Min(1, sympy.Max(-1, X))),
        ("sigmoid(x)", 1 / (1 + sympy.exp(-X))),
        ("softplus(x)", sympy.log(1 + sympy.exp(X))),
        ("phi(x)", sympy.exp(-(X**2) / 2) / sympy.sqrt(2 * sympy.pi)),
        ("step(x)", sympy.Heaviside(X, 0)),
        ("Heaviside(x)", sympy.Heaviside(X)),
        ("abs(x) + sign(y)", sympy.Abs(X) + sympy.sign(Y)),
        ("atan2(y, x)", sympy.atan2(Y, X)),
        ("loggamma(x) + gamma(y)", sympy.loggamma(X) + sympy.gamma(Y)),
        ("  x\n + y ", X + Y),
        ("x - x", sympy.Integer(0)),
        ("max(1, 2.5)", sympy.Rational(5, 2)),
    ],
)
def test_the_sympy_expression(text, expected):
    assert parse_formula(text, ["x", "y"]) == expected


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_has_the_same_value_as_a_number_and_in_sympy(name):
    rule = FUNCTIONS[name]
    for shift in (0.3, 0.45, 0.9):
        arguments = [round(shift + 0.07 * index, 4) for index in range(rule.least)]
        if name == "where":
            number = evaluate_number(f"where({arguments[0]} < {arguments[1]}, 2, 3)", {})
            expression = parse_formula("where(a < b, 2, 3)", ["a", "b"])
        else:
            number = evaluate_number(f"{name}({', '.join(map(str, arguments))})", {})
            expression = parse_formula(f"{name}({', '.join('abcdef'[: rule.least])})", "abcdef")
        values = {sympy.Symbol(letter, real=True): value for letter, value in zip("abcdef", arguments, strict=False)}
        assert float(expression.subs(values)) == pytest.approx(float(number), rel=1e-12), name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4*width", 2048), ("width/2", 256), ("width/3", 512 / 3), ("1/sqrt(2*depth)", 1 / math.sqrt(24)),
        ("0.1 + 0.2", 0.3), ("sqrt(16)", 4), ("sqrt(2.25)", 1.5), ("2**10", 1024), ("2**-2", 0.25), ("2.0*3", 6),
        ("max(depth, 20)", 20), ("where(depth > 10, 1, 2)", 1), ("where(depth > 100, 1, 2)", 2), ("-depth", -12),
        ("clip(rate, 0, 1)", 0.1), ("7", 7), ("1e3", 1000), ("pi", math.pi), ("exp(0)", 1.0), ("abs(-3)", 3),
        ("step(0)", 0), ("Heaviside(0)", 0.5), ("sign(-2)", -1), ("8**(1/3)", 2.0), ("relu(-1)", 0), ("rate*10", 1),
        ("sqrt(1e12*width/2)", 16000000),
    ],
)  # fmt: skip
def test_numbers_of_parameters(text, value):
    found = evaluate_number(text, {"width": 512, "depth": 12, "rate": 0.1})
    assert found == pytest.approx(value, rel=1e-15)
    assert type(found) is type(value)


def test_numbers_given_as_such_are_handed_back():
    assert evaluate_number(3, {}) == 3 and evaluate_number(0.5, {}) == 0.5
    for wrong in (True, None, [1], 1j):
        with pytest.raises(FormulaError):
            evaluate_number(wrong, {})


@pytest.mark.parametrize(
    "constants", [{"a": math.nan}, {"a": math.inf}, {"a": True}, {"a": 2**600}, {"a b": 1}, {"a": "1"}]
)
def test_constants_are_finite_numbers_with_names(constants):
    with pytest.raises(FormulaError):
        evaluate_number("1", constants)


def test_a_tiny_float_constant_is_taken_as_it_is():
    assert evaluate_number("a*2", {"a": 1e-300}) == 2e-300


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("x + ⟦z⟧", "unknown symbol 'z'", ""),
        ("widht + ⟦widh⟧", "unknown symbol 'widh'", "did you mean 'widht'?"),
        ("⟦e⟧**x", "unknown symbol 'e'", "write exp(1) for Euler's number"),
        ("⟦expp⟧(x)", "unknown function 'expp'", "did you mean 'exp'?"),
        ("⟦gathr⟧(x)", "unknown function 'gathr'", "did you mean 'gather'?"),
        ("⟦x⟧(3)", "x is not a function", "write * for a product"),
        ("2*⟦exp⟧", "exp is a function", "call it: exp(...)"),
        ("⟦exp(x, y)⟧", "exp takes 1 argument, not 2", ""),
        ("⟦max(x)⟧", "max takes 2 to 6 arguments, not 1", ""),
        ("x⟦^⟧2", "'^' is not allowed", "write ** for a power"),
        ("x⟦//⟧2", "'//' is not allowed", "write / for a division"),
        ("⟦lambda⟧: x", "'lambda' is not allowed", "one expression"),
        ("x⟦.⟧real", "'.' is not allowed", "attributes"),
        ("x⟦[⟧0]", "'[' is not allowed", "indexing"),
        ("x ⟦==⟧ y", "'==' is not allowed", "< <= > >="),
        ("x ⟦=⟧ y", "'=' is not allowed", "right-hand side"),
        ("x ⟦if⟧ y else 2", "'if' is not allowed", "where(condition, a, b)"),
        ("x ⟦and⟧ y", "'and' is not allowed", "nest where"),
        ("⟦True⟧*x", "'True' is not allowed", "use 1 and 0"),
        ("⟦'⟧a'", "is not allowed", "no texts"),
        ("⟦2x⟧ + 1", "'2x' is not a number", "write 2*x"),
        ("⟦1_000⟧*x", "'1_000' is not a number", "without _"),
        ("x + ⟦2j⟧", "'2j' is not a number", "complex"),
        ("⟦1.2.3⟧", "'1.2.3' is not a number", ""),
        ("x + ⟦0x10⟧", "'0x10' is not a number", ""),
        ("x ⟦y⟧", "'y' does not follow", "write * for a product"),
        ("(x) ⟦y⟧", "'y' does not follow", "write * for a product"),
        ("x + ⟦)⟧", "this bracket was never opened", ""),
        ("x * ⟦(⟧y + 1", "this bracket is never closed", ""),
        ("x +⟦ ⟧", "ends too early", ""),
        ("x * ⟦/⟧ y", "'/' cannot stand here", ""),
        ("⟦1 < 2⟧", "a comparison is not a value", "where"),
        ("2*⟦(x < 1)⟧", "a comparison stands only", "where"),
        ("where(⟦x⟧, 1, 2)", "is a comparison", "where(x > 0"),
        ("where(⟦0 < x < 1⟧, 1, 2)", "one comparison at a time", "nest"),
        ("where(⟦1 < 2⟧, x, y)", "depends on no symbol", ""),
        ("x/⟦0⟧", "division by zero", ""),
        ("x + ⟦0**-1⟧", "division by zero", ""),
        ("⟦sqrt(-1)⟧*x", "not a real number", ""),
        ("⟦log(0)⟧", "not a real number", ""),
        ("⟦(-8)**(1/3)⟧", "not real", ""),
        ("⟦exp(1000)⟧", "too large", ""),
        ("⟦(x, y)⟧", "a list of values", ""),
        ("max(⟦*x⟧)", "'*' before a value", ""),
        ("⟦exp(x)⟧(y)", "only a named function", ""),
        ("αβ + ⟦γ⟧", "unknown symbol 'γ'", ""),
        ("ｘ + ⟦z⟧", "unknown symbol 'z'", ""),
        ("   x +  ⟦$⟧", "'$' is not allowed", ""),
        ("x\n\n + ⟦zz⟧", "unknown symbol 'zz'", ""),
        ("⟦_x⟧", "is not a name", ""),
        ("⟦__import__⟧(x)", "is not a name", ""),
        ("⟦x²⟧", "is not a name", ""),
        ("⟦·⟧", "is not allowed", "write * for a product"),
        ("⟦⟧", "the formula is empty", ""),
    ],
)  # fmt: skip
def test_errors_point_at_the_part_to_blame(text, message, help):
    flat, places = marked(text.replace("\n", "\x00"))
    clean, place = flat.replace("\x00", "\n"), places[0]
    if "(x < 1)" in clean:
        place = type(place)(1, place.column + 1, place.length - 2)  # the brackets belong to no part
    with pytest.raises(FormulaError) as caught:
        check_formula(clean, ["x", "y", "widht", "αβ"], ["gather"])
    error = caught.value
    assert message in error.message and help in error.help
    assert (error.column, error.length) == (place.column, max(1, place.length))
    assert f"formula:1:{place.column}: error: " in str(error)


def test_columns_count_characters_not_bytes():
    names = ["漢", "é", "x"]
    for text, column in (("漢*é*zz", 5), ("漢 + 漢 + zz", 9), ("é**2 + exp(漢) + zz", 17)):
        with pytest.raises(FormulaError) as caught:
            check_formula(text, names)
        assert caught.value.column == column == text.index("zz") + 1


def test_names_are_compared_as_python_spells_them():
    assert parse_formula("ﬁ + 1", ["fi"]) == sympy.Symbol("fi", real=True) + 1
    assert parse_formula("ﬁ", ["ﬁ"]) == sympy.Symbol("fi", real=True)
    assert parse_formula("ϕ*2", ["φ"]) == 2 * sympy.Symbol("φ", real=True)


@pytest.mark.parametrize(
    "name", ["", "1a", "a b", "a.b", "lambda", "_a", "__class__", "a" * 65, "a;b", "x\n", "²", "a-b"]
)
def test_names_that_cannot_be_symbols(name):
    assert not is_name(name)
    with pytest.raises(FormulaError):
        check_formula("1", [name])


def test_a_mapping_gives_the_symbols():
    q = sympy.Symbol("q", positive=True)
    assert parse_formula("sqrt(q**2)", {"q": q}) == q


def test_operators_and_special_functions_stay_undefined():
    gather = sympy.Function("gather", real=True)
    owens = sympy.Function("owens_t", real=True)
    found = parse_formula("gather(x)/9 + owens_t(x, 2) + gather(1)", ["x"], {"gather": 1}, special={"owens_t": 2})
    assert found == gather(X) / 9 + owens(X, 2) + gather(1)
    formula = check_formula("gather(x) + exp(y)", ["x", "y", "z"], ["gather"])
    assert formula.symbols == {"x", "y"} and formula.functions == {"gather", "exp"}
    with pytest.raises(FormulaError, match="gather takes 1 argument, not 2"):
        check_formula("gather(x, x)", ["x"], {"gather": 1})
    with pytest.raises(FormulaError, match="shift takes 1 to 2 arguments, not 0"):
        check_formula("shift()", ["x"], {"shift": (1, 2)})
    assert check_formula("max_mean()", [], {"max_mean": 0}).functions == {"max_mean"}


def test_conditions():
    assert check_condition("fan_in >= 16", ["fan_in"]).term.kind == ">="
    kind, left, right = parse_condition("abs(x) < 0.05*sqrt(y)", ["x", "y"])
    assert (kind, left, right) == ("<", sympy.Abs(X), sympy.sqrt(Y) / 20)
    with pytest.raises(FormulaError, match="a comparison is needed"):
        check_condition("x + 1", ["x"])


def test_abbreviations_are_written_out():
    let = {"s": "x + 1", "t": "s**2"}
    assert parse_formula("t/s", ["x"], let=let) == X + 1
    assert check_formula("t", ["x"], let=let).symbols == {"t"}
    with pytest.raises(FormulaError, match="unknown symbol 't'"):
        check_formula("x", ["x"], let={"s": "t", "t": "x"})
    with pytest.raises(FormulaError, match="at most 64"):
        check_formula("2**n", [], let={"n": "2**10"})


def test_the_error_of_an_expression_is_shown_with_its_text():
    with pytest.raises(FormulaError) as caught:
        parse_formula("x + 漢字 + zz", ["x", "漢字"])
    assert str(caught.value).split("\n")[1:3] == ["    x + 漢字 + zz", "    " + " " * 11 + "^^"]


# Arithmetic against Python's own, on trees that hypothesis draws: (text, value) side by side.
numbers = st.integers(0, 30).map(lambda n: (str(n), Fraction(n))) | st.integers(1, 99).map(
    lambda n: (f"0.{n:02d}", Fraction(n, 100))
)


def joined(children):
    def sum_of(parts):
        (a, x), (b, y) = parts
        return f"({a} + {b})", x + y

    def difference(parts):
        (a, x), (b, y) = parts
        return f"{a} - ({b})", x - y

    def product(parts):
        (a, x), (b, y) = parts
        return f"({a})*({b})", x * y

    def quotient(parts):
        (a, x), (b, y) = parts
        return (f"({a})/({b})", x / y) if y else (f"({a})", x)

    def power(part):
        a, x = part
        return f"({a})**2", x**2

    pairs = st.tuples(children, children)
    return pairs.map(sum_of) | pairs.map(difference) | pairs.map(product) | pairs.map(quotient) | children.map(power)


@given(st.recursive(numbers, joined, max_leaves=12))
def test_arithmetic_is_exact(tree):
    text, value = tree
    try:
        found = evaluate_number(text, {})
    except FormulaError as error:
        assert "bits" in error.message or "powers" in error.message
        return
    assert found == (int(value) if value.denominator == 1 else float(value))
    assert parse_formula(text, []) == sympy.Rational(value.numerator, value.denominator)
