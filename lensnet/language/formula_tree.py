"""Formula text to a small tree of whitelisted terms. Python's `ast` reads the text; nothing in it is ever run."""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from lensnet.language.source import Problem, Source, shorten

MAX_LENGTH = 2000  # characters
MAX_TERMS = 400
MAX_DEPTH = 40
MAX_BITS = 512  # of an integer, or of either part of a rational
MAX_DECIMAL_EXPONENT = 60

NAME = re.compile(r"[^\W\d_]\w{0,63}")
NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
TOKEN = re.compile(rf"(?P<number>{NUMBER})|(?P<name>\w+)|(?P<operator>\*\*|//|[<>=!]=|[-+*/<>(),])|(?P<other>\S)")
COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
WORDS = {
    "lambda": "a formula is one expression of its symbols",
    **dict.fromkeys(("if", "else", "elif"), "use where(condition, a, b)"),
    **dict.fromkeys(("and", "or", "not"), "nest where(...), with one comparison in each condition"),
    **dict.fromkeys(("True", "False"), "use 1 and 0, or where(condition, a, b)"),
}
SIGNS = {
    "^": "write ** for a power",
    "//": "write / for a division",
    ".": "attributes are not allowed: write one name, such as fan_in",
    "[": "indexing is not allowed: a symbol has one name, such as b_0",
    "==": "only < <= > >= are possible, as the condition of where(...)",
    "!=": "only < <= > >= are possible, as the condition of where(...)",
    "=": "a formula is the right-hand side alone",
    "%": "there is no remainder in formulas",
    "'": "there are no texts in formulas",
    '"': "there are no texts in formulas",
    "#": "put the comment outside the formula",
    "·": "write * for a product",
    "×": "write * for a product",
    "÷": "write / for a division",
    "−": "write - for minus",
    "√": "write sqrt(...)",
}


class FormulaError(Exception):
    """A formula that is refused, and which part of it. Column from 1, in characters; 0 means all of it."""

    def __init__(self, message: str, column: int = 1, length: int = 1, help: str = "") -> None:
        super().__init__(message)
        self.message, self.column, self.length, self.help = message, column, max(1, length), help
        self.text = ""

    def __str__(self) -> str:
        text = re.sub(r"\s", " ", self.text)
        return str(Problem(Source("formula", text), 1, self.column, self.length, self.message, self.help))


class Term(NamedTuple):
    """A whitelisted part of a formula.

    kind: `number` (value), `symbol` (name), `call` (name, args), a comparison `< <= > >=`, or one of `sum`, `product`,
    `power`, `minus`, `inverse`. A chain `a - b + c` is one sum, so that a long sum is not a deep one.
    """

    kind: str
    column: int
    length: int
    args: tuple[Term, ...] = ()
    name: str = ""
    value: Fraction | None = None

    def error(self, message: str, help: str = "") -> FormulaError:
        return FormulaError(message, self.column, self.length, help)


def read_formula(text: str) -> Term:
    """The formula's tree, within every bound on its size. Raises FormulaError."""
    if not isinstance(text, str):
        error = FormulaError(f"a formula is text, not {type(text).__name__}")
        error.text = str(text)[:MAX_LENGTH]
        raise error
    return _read(text)


@lru_cache(maxsize=1024)
def _read(text: str) -> Term:
    """Repeated bodies ask for the same few formulas again and again."""
    try:
        _check_tokens(text)
        start = len(text) - len(text.lstrip())
        flat = re.sub(r"\s", " ", text.strip())
        try:
            tree = ast.parse(flat, mode="eval")
        except SyntaxError as error:
            raise _syntax_error(flat, error, start) from None
        except (ValueError, MemoryError, RecursionError):
            raise FormulaError("this is not a formula", 1 + start, len(flat)) from None
        return _Walk(flat, start).term(tree.body, 0)
    except FormulaError as error:
        error.text = str(text)[:MAX_LENGTH]
        raise


@lru_cache(maxsize=4096)
def normal_name(name: str) -> str:
    """`name` as `ast` spells it (NFKC). Raises FormulaError when it cannot be a symbol."""
    normal = unicodedata.normalize("NFKC", name)
    if not NAME.fullmatch(normal) or keyword.iskeyword(normal):
        raise FormulaError(
            f"'{shorten(name)}' cannot name a symbol",
            1,
            len(name),
            "use letters, digits and _, beginning with a letter",
        )
    return normal


def _check_tokens(text: str) -> None:
    """Refuses, with help, every character and word that no formula holds, before `ast` sees the text."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula is longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise FormulaError("the formula is empty")
    open_brackets: list[int] = []
    for token in TOKEN.finditer(text):
        word, column = token.group(), token.start() + 1
        if token.lastgroup == "number":
            _check_number(word, column, text[token.end() :])
        elif token.lastgroup == "name":
            _check_word(word, column)
        elif word in SIGNS or token.lastgroup == "other":
            sign = word if word.isprintable() else ascii(word)[1:-1]
            raise FormulaError(f"'{sign}' is not allowed in a formula", column, len(word), SIGNS.get(word, ""))
        elif word == "(":
            open_brackets.append(column)
            if len(open_brackets) > MAX_DEPTH:
                raise FormulaError(f"more than {MAX_DEPTH} levels of brackets", column, 1)
        elif word == ")":
            if not open_brackets:
                raise FormulaError("this bracket was never opened", column, 1)
            open_brackets.pop()
    if open_brackets:
        raise FormulaError("this bracket is never closed", open_brackets[-1], 1)


def _check_number(word: str, column: int, rest: str) -> None:
    follows = re.match(r"[\w.]+", rest)
    if follows and follows.group()[0] == ".":
        raise FormulaError(f"'{shorten(word + follows.group())}' is not a number", column, len(word) + follows.end())
    if follows:
        help = f"write {word}*{shorten(follows.group())}"
        if follows.group() in ("j", "J"):
            help = "complex numbers are not allowed"
        elif follows.group()[0] == "_":
            help = "write the digits without _"
        raise FormulaError(
            f"'{shorten(word + follows.group())}' is not a number", column, len(word) + follows.end(), help
        )
    mantissa, _, exponent = word.lower().partition("e")
    if len(exponent) > 9 or abs(int(exponent or "0")) > MAX_DECIMAL_EXPONENT:
        raise FormulaError(f"the exponent of {shorten(word)} is beyond {MAX_DECIMAL_EXPONENT}", column, len(word))
    if len(mantissa) > MAX_BITS or bits(Fraction(word)) > MAX_BITS:
        raise FormulaError("the number has too many digits", column, len(word))


def _check_word(word: str, column: int) -> None:
    normal = unicodedata.normalize("NFKC", word)
    if keyword.iskeyword(normal):
        raise FormulaError(f"'{word}' is not allowed in a formula", column, len(word), WORDS.get(normal, ""))
    if not NAME.fullmatch(normal) or not word.isidentifier():
        raise FormulaError(f"'{shorten(word)}' is not a name", column, len(word), "a name begins with a letter")


def bits(number: Fraction) -> int:
    """The larger of the bit lengths of the two parts of a rational."""
    return max(number.numerator.bit_length(), number.denominator.bit_length())


def _syntax_error(text: str, error: SyntaxError, start: int) -> FormulaError:
    index = (error.offset or 0) - 1
    if not 0 <= index < len(text):
        return FormulaError("the formula ends too early", start + len(text) + 1, 1)
    token = TOKEN.match(text, index)
    word = token.group() if token else text[index]
    before = text[:index].rstrip()
    is_operand = token is not None and token.lastgroup in ("number", "name")
    if (is_operand and (before[-1:].isalnum() or before[-1:] == ")")) or (word == "(" and before[-1:] == ")"):
        message = f"'{shorten(word)}' does not follow from what stands before it"
        return FormulaError(message, start + index + 1, len(word), "write * for a product")
    return FormulaError(f"'{shorten(word)}' cannot stand here", start + index + 1, len(word))


class _Walk:
    """Walks one `ast` tree. `ast` counts columns in UTF-8 bytes; terms count characters."""

    def __init__(self, text: str, start: int) -> None:
        self.bytes = text.encode()
        self.start = start
        self.terms = 0

    def term(self, node: ast.expr, depth: int) -> Term:
        if depth > MAX_DEPTH:
            raise self.make("", node).error(f"more than {MAX_DEPTH} levels of nesting")
        if isinstance(node, ast.Constant):
            return self.make("number", node, value=Fraction(self.text(node)))
        if isinstance(node, ast.Name):
            return self.make("symbol", node, name=node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            inner = self.term(node.operand, depth + 1)
            return self.make("minus", node, (inner,)) if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            return self.chain(node, "sum", (ast.Add, ast.Sub), "minus", depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
            return self.chain(node, "product", (ast.Mult, ast.Div), "inverse", depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return self.make("power", node, (self.term(node.left, depth + 1), self.term(node.right, depth + 1)))
        if isinstance(node, ast.Compare):
            return self.comparison(node, depth)
        if isinstance(node, ast.Call):
            return self.call(node, depth)
        what = {ast.Tuple: "a list of values", ast.Starred: "'*' before a value"}.get(type(node), "this")
        raise self.make("", node).error(f"{what} is not allowed in a formula")

    def chain(
        self,
        node: ast.BinOp,
        kind: str,
        operators: tuple[type[ast.operator], type[ast.operator]],
        other: str,
        depth: int,
    ) -> Term:
        """`a - b + c`: `ast` nests to the left, one level for each operator; here it is one term."""
        parts: list[tuple[ast.operator | None, ast.expr]] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, operators):
            parts.append((left.op, left.right))
            left = left.left
        parts.append((None, left))
        args = []
        for operator, part in reversed(parts):
            inner = self.term(part, depth + 1)
            args.append(self.make(other, part, (inner,)) if isinstance(operator, operators[1]) else inner)
        return self.make(kind, node, tuple(args))

    def comparison(self, node: ast.Compare, depth: int) -> Term:
        if len(node.ops) > 1:
            raise self.make("", node).error("one comparison at a time", "nest where(...) for a range")
        kind = COMPARISONS.get(type(node.ops[0]))
        if kind is None:
            raise self.make("", node).error("this comparison is not allowed", "only < <= > >= are possible")
        return self.make(kind, node, (self.term(node.left, depth + 1), self.term(node.comparators[0], depth + 1)))

    def call(self, node: ast.Call, depth: int) -> Term:
        if not isinstance(node.func, ast.Name):
            raise self.make("", node.func).error("only a named function can be called", "write * for a product")
        if node.keywords:
            raise self.make("", node.keywords[0].value).error("arguments have no names")
        return self.make("call", node, tuple(self.term(arg, depth + 1) for arg in node.args), name=node.func.id)

    def make(
        self, kind: str, node: ast.expr, args: tuple[Term, ...] = (), name: str = "", value: Fraction | None = None
    ) -> Term:
        self.terms += 1
        column = len(self.bytes[: node.col_offset].decode()) + 1 + self.start
        term = Term(kind, column, len(self.text(node)), args, name, value)
        if self.terms > MAX_TERMS:
            raise term.error(f"the formula has more than {MAX_TERMS} parts")
        return term

    def text(self, node: ast.expr) -> str:
        return self.bytes[node.col_offset : node.end_col_offset].decode()
