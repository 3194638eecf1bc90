"""What the parts of a value template compute: closures that the parser of `value_template.py` puts together."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

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
Node = Callable[[Mapping[str, Any]], Any]
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def constant(value: Any) -> Node:
    return lambda _names: value


def choice(condition: Node, yes: Node, no: Node) -> Node:
    return lambda names: yes(names) if _true(condition(names)) else no(names)


def negation(node: Node) -> Node:
    return lambda names: not _true(node(names))


def logic(is_or: bool, nodes: tuple[Node, ...]) -> Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        found: Any = UNDEFINED
        for node in nodes:
            found = node(names)
            if _true(found) is is_or:
                break
        return found

    return evaluate


def compared(compare: Callable[[Any, Any], Any], left: Node, right: Node) -> Node:
    return lambda names: bool(compare(left(names), right(names)))


def tested(test: str, node: Node) -> Node:
    if test == "defined":
        return lambda names: node(names) is not UNDEFINED
    if test == "none":
        return lambda names: node(names) is None
    return lambda names: _is_number(node(names))


def item(container: Node, key: Node) -> Node:
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


def arithmetic(sign: str, left: Node, right: Node) -> Node:
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


def _or_default(convert: Callable[[Any], Any], node: Node, arguments: Sequence[Node]) -> Node:
    def evaluate(names: Mapping[str, Any]) -> Any:
        try:
            return convert(node(names))
        except (NoValue, ValueError, OverflowError):
            if not arguments:
                raise NoValue from None
            return arguments[0](names)

    return evaluate


def _rounded(node: Node, arguments: Sequence[Node]) -> Node:
    def evaluate(names: Mapping[str, Any]) -> float:
        decimals = _int(arguments[0](names)) if arguments else 0
        if abs(decimals) > _MOST_DECIMALS:
            raise NoValue
        # Home Assistant's own filter takes text too.
        return round(_to_number(node(names)), decimals)

    return evaluate


def _defaulted(node: Node, arguments: Sequence[Node]) -> Node:
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


def _text(change: Callable[[str], str], node: Node) -> Node:
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


def filtered(name: str, node: Node, arguments: Sequence[Node]) -> Node:
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
        return arithmetic("*" if name == "multiply" else "+", node, arguments[0])
    if name == "is_defined":
        return _defined(node)
    return _or_default(_float if name == "float" else _int, node, arguments)


def _defined(node: Node) -> Node:
    """The value, or none at all: where Home Assistant leaves the entity as it was."""

    def evaluate(names: Mapping[str, Any]) -> Any:
        found = node(names)
        if found is UNDEFINED:
            raise NoValue
        return found

    return evaluate
