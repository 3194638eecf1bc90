"""Value templates of Home Assistant's MQTT discovery: the small part of Jinja that meters use, by a parser of ours.

A template is text from the network and is never run as code. What the parser does not know is refused whole, so an
entity is either read exactly as its maker meant it or not at all.

    {{ ternary }}
    ternary = or ["if" or "else" ternary]      or = and {"or" and}      and = not {"and" not}
    not = ["not"] sum [("==" | "!=" | "<" | "<=" | ">" | ">=") sum | "is" ["not"] ("defined" | "none" | "number")]
    sum = product {("+" | "-") product}        product = unary {("*" | "/") unary}
    unary = ["-"] primary {"." name | "[" ternary "]"} {"|" filter ["(" arguments ")"]}
    primary = number | string | "true" | "false" | "none" | "value" | "value_json" | "(" ternary ")" |
              ("float" | "int") "(" arguments ")"
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

# Real ones have less than 100 characters; these bounds keep a hostile one from costing more than its own length.
MAX_LENGTH = 1000
MAX_TOKENS = 250
MAX_DEPTH = 16
# Whole numbers beyond this are handled as floats: a chain of multiplications can not make digits without end.
_LARGEST_INT = 2**63
_MOST_DECIMALS = 12
_MAX_TEXT = 512


class UnreadableTemplate(ValueError):
    """A template outside the subset; the text says what was met."""


class NoValue(Exception):
    """A template that has no value for this message: a key is missing, or a text is no number."""


class _Undefined:
    """What a missing key gives, as in Jinja."""


UNDEFINED: Final = _Undefined()
_Node = Callable[[Mapping[str, Any]], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?)
    |(?P<string>'[^'\\]{0,200}'|"[^"\\]{0,200}")
    |(?P<name>[A-Za-z_][A-Za-z0-9_]{0,99})
    |(?P<sign>==|!=|<=|>=|[-+*/|.,()\[\]<>]))""",
    re.VERBOSE | re.ASCII,
)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "none": None, "None": None}


class ValueTemplate:
    """A template that was understood. `needs_json` says whether it looks into a JSON payload, `keys` at which names."""

    __slots__ = ("_node", "keys", "needs_json", "text")

    def __init__(self, text: str) -> None:
        """Raise UnreadableTemplate for one outside the subset."""
        parser = _Parser(text)
        self.text = text
        self._node = parser.whole()
        self.needs_json = parser.needs_json
        self.keys = tuple(parser.keys)

    def value(self, text: str, json: Any = UNDEFINED) -> Any:
        """The value for one message: a number, text, boolean, None or a part of the JSON. Raises NoValue."""
        try:
            found = self._node({"value": text, "value_json": json})
        except (ArithmeticError, ValueError, TypeError, RecursionError):
            # Division by zero, comparison of text with numbers: Home Assistant logs an error and shows nothing.
            raise NoValue from None
        if found is UNDEFINED:
            raise NoValue
        return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.needs_json = False
        self.keys: list[str] = []
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._ternary()
        if self._at != len(self._tokens):
            raise UnreadableTemplate(f"{self._tokens[self._at][1][:20]!r} is not understood here")
        return node

    def _peek(self) -> str:
        """The next token, if it is a sign or a name; texts and numbers never look like one."""
        if self._at < len(self._tokens) and self._tokens[self._at][0] in {"sign", "name"}:
            return self._tokens[self._at][1]
        return ""

    def _take(self, *wanted: str) -> str:
        """Take the next token if it is one of these."""
        found = self._peek()
        if found and found in wanted:
            self._at += 1
            return found
        return ""

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            raise UnreadableTemplate(f"{wanted!r} is missing")

    def _ternary(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableTemplate("nested too deep")
        node = self._logic("or")
        if self._take("if"):
            condition = self._logic("or")
            self._expect("else")
            node = _choice(condition, node, self._ternary())
        self._depth -= 1
        return node

    def _logic(self, word: str) -> _Node:
        nodes = [self._logic_part(word)]
        while self._take(word):
            nodes.append(self._logic_part(word))
        return nodes[0] if len(nodes) == 1 else _logic(word == "or", tuple(nodes))

    def _logic_part(self, word: str) -> _Node:
        return self._logic("and") if word == "or" else self._comparison()

    def _comparison(self) -> _Node:
        if self._take("not"):
            return _negation(self._comparison_of_sums())
        return self._comparison_of_sums()

    def _comparison_of_sums(self) -> _Node:
        node = self._sum()
        if sign := self._take(*_COMPARISONS):
            return _compared(_COMPARISONS[sign], node, self._sum())
        if self._take("is"):
            negated = bool(self._take("not"))
            test = self._take("defined", "none", "number")
            if not test:
                raise UnreadableTemplate("a test other than defined, none and number")
            node = _tested(test, node)
            return _negation(node) if negated else node
        return node

    def _sum(self) -> _Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = _arithmetic(sign, node, self._product())
        return node

    def _product(self) -> _Node:
        node = self._unary()
        while sign := self._take("*", "/"):
            node = _arithmetic(sign, node, self._unary())
        return node

    def _unary(self) -> _Node:
        negative = bool(self._take("-"))
        node = self._postfixed(self._primary())
        if negative:
            node = _arithmetic("-", _constant(0), node)
        while self._take("|"):
            name = self._name()
            node = _filtered(name, node, self._arguments() if self._peek() == "(" else [])
        return node

    def _postfixed(self, node: _Node) -> _Node:
        while True:
            if self._take("."):
                key = self._name()
                self.keys.append(key)
                node = _item(node, _constant(key))
            elif self._take("["):
                kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
                if kind == "string":
                    self.keys.append(text[1:-1])
                node = _item(node, self._ternary())
                self._expect("]")
            else:
                return node

    def _name(self) -> str:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "name":
            self._at += 1
            return self._tokens[self._at - 1][1]
        raise UnreadableTemplate("a name is missing")

    def _arguments(self) -> list[_Node]:
        self._expect("(")
        nodes: list[_Node] = []
        while not self._take(")"):
            if nodes:
                self._expect(",")
            nodes.append(self._ternary())
        return nodes

    def _primary(self) -> _Node:
        if self._at >= len(self._tokens):
            raise UnreadableTemplate("it ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return _constant(int(text) if text.isdigit() else float(text))
        if kind == "string":
            return _constant(text[1:-1])
        if text == "(":
            node = self._ternary()
            self._expect(")")
            return node
        if kind == "name" and text in _CONSTANTS:
            return _constant(_CONSTANTS[text])
        if text in {"value", "value_json"}:
            self.needs_json = self.needs_json or text == "value_json"
            return lambda names: names[text]
        if text in {"float", "int"} and self._peek() == "(":
            arguments = self._arguments()
            if arguments:
                return _filtered(text, arguments[0], arguments[1:])
        raise UnreadableTemplate(f"{text[:20]!r} is not understood")


def _tokens(text: str) -> list[tuple[str, str]]:
    if len(text) > MAX_LENGTH:
        raise UnreadableTemplate(f"longer than {MAX_LENGTH} characters")
    stripped = text.strip()
    if not (stripped.startswith("{{") and stripped.endswith("}}")):
        raise UnreadableTemplate("it is not one expression in {{ }}")
    inner = stripped[2:-2].removeprefix("-").removesuffix("-").rstrip()
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(inner):
        match = _TOKEN.match(inner, at)
        if match is None:
            raise UnreadableTemplate(f"{inner[at : at + 20].strip()!r} is not understood")
        tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        if len(tokens) > MAX_TOKENS:
            raise UnreadableTemplate(f"more than {MAX_TOKENS} words and signs")
        at = match.end()
    return tokens


# --- What the parts compute -----------------------------------------------------------------------------------------


def _constant(value: Any) -> _Node:
    return lambda _names: value


def _choice(condition: _Node, yes: _Node, no: _Node) -> _Node:
    return lambda names: yes(names) if _true(condition(names)) else no(names)


def _negation(node: _Node) -> _Node:
    return lambda names: not _true(node(names))


def _logic(is_or: bool, nodes: tuple[_Node, ...]) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        found: Any = UNDEFINED
        for node in nodes:
            found = node(names)
            if _true(found) is is_or:
                break
        return found

    return evaluate


def _compared(compare: Callable[[Any, Any], Any], left: _Node, right: _Node) -> _Node:
    return lambda names: bool(compare(left(names), right(names)))


def _tested(test: str, node: _Node) -> _Node:
    if test == "defined":
        return lambda names: node(names) is not UNDEFINED
    if test == "none":
        return lambda names: node(names) is None
    return lambda names: _is_number(node(names))


def _item(container: _Node, key: _Node) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        where, what = container(names), key(names)
        if isinstance(where, dict):
            return where.get(what, UNDEFINED) if isinstance(what, (str, int)) else UNDEFINED
        if isinstance(where, list) and type(what) is int and -len(where) <= what < len(where):
            return where[what]
        if where is UNDEFINED and names.get("value_json") is not UNDEFINED:
            # Jinja makes an error of a key of a missing key, where ours has simply no value.
            raise NoValue
        return UNDEFINED

    return evaluate


def _arithmetic(sign: str, left: _Node, right: _Node) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> float:
        a, b = _operand(left(names)), _operand(right(names))
        if sign == "+":
            return a + b
        if sign == "-":
            return a - b
        return a * b if sign == "*" else a / b

    return evaluate


def _operand(value: Any) -> float:
    """A number for arithmetic. Jinja does not make numbers of text, and neither do we."""
    if not _is_number(value):
        raise NoValue
    return value if isinstance(value, float) or -_LARGEST_INT < value < _LARGEST_INT else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _true(value: Any) -> bool:
    return value is not UNDEFINED and bool(value)


def _to_number(value: Any) -> float:
    if isinstance(value, str):
        if len(value) > 40 or "_" in value:
            raise NoValue
        value = float(value)
    elif isinstance(value, bool):
        value = int(value)
    elif not _is_number(value):
        raise NoValue
    if not math.isfinite(value):
        raise NoValue
    return float(value)


def _float(value: Any) -> float:
    return _to_number(value)


def _int(value: Any) -> int:
    return value if type(value) is int else int(_to_number(value))


def _or_default(convert: Callable[[Any], Any], node: _Node, arguments: Sequence[_Node]) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        try:
            return convert(node(names))
        except (NoValue, ValueError, OverflowError):
            if not arguments:
                raise NoValue from None
            return arguments[0](names)

    return evaluate


def _rounded(node: _Node, arguments: Sequence[_Node]) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> float:
        decimals = _int(arguments[0](names)) if arguments else 0
        if abs(decimals) > _MOST_DECIMALS:
            raise NoValue
        # Home Assistant's own filter takes text too.
        return round(_to_number(node(names)), decimals)

    return evaluate


def _defaulted(node: _Node, arguments: Sequence[_Node]) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        try:
            found = node(names)
        except NoValue:
            found = UNDEFINED
        also_false = len(arguments) > 1 and _true(arguments[1](names))
        if found is UNDEFINED or (also_false and not found):
            return arguments[0](names) if arguments else ""
        return found

    return evaluate


def _text(change: Callable[[str], str], node: _Node) -> _Node:
    def evaluate(names: Mapping[str, Any]) -> str:
        found = node(names)
        if isinstance(found, (str, int, float)) and len(text := str(found)) <= _MAX_TEXT:
            return change(text)
        raise NoValue

    return evaluate


_TEXT_FILTERS: dict[str, Callable[[str], str]] = {
    "trim": str.strip,
    "lower": str.lower,
    "upper": str.upper,
    "string": str,
}
# Name -> the most arguments it takes.
_FILTERS = {"float": 1, "int": 1, "round": 1, "default": 2, "d": 2, "is_defined": 0, "abs": 0, "multiply": 1, "add": 1}
_FILTERS |= dict.fromkeys(_TEXT_FILTERS, 0)
_NEED_ONE = frozenset({"multiply", "add"})


def _filtered(name: str, node: _Node, arguments: Sequence[_Node]) -> _Node:
    if name not in _FILTERS:
        raise UnreadableTemplate(f"the filter {name[:20]!r} is not understood")
    if len(arguments) > _FILTERS[name] or (name in _NEED_ONE and not arguments):
        raise UnreadableTemplate(f"{len(arguments)} arguments of {name}")
    if name in _TEXT_FILTERS:
        return _text(_TEXT_FILTERS[name], node)
    if name in {"default", "d"}:
        return _defaulted(node, arguments)
    if name == "round":
        return _rounded(node, arguments)
    if name == "abs":
        return lambda names: abs(_operand(node(names)))
    if name in _NEED_ONE:
        return _arithmetic("*" if name == "multiply" else "+", node, arguments[0])
    if name == "is_defined":
        return _defined(node)
    return _or_default(_float if name == "float" else _int, node, arguments)


def _defined(node: _Node) -> _Node:
    """The value, or none at all: where Home Assistant leaves the entity as it was."""

    def evaluate(names: Mapping[str, Any]) -> Any:
        found = node(names)
        if found is UNDEFINED:
            raise NoValue
        return found

    return evaluate
