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

import re
from typing import Any

from app.protocol.value_template_parts import (
    COMPARISONS,
    UNDEFINED,
    Node,
    NoValue,
    UnreadableTemplate,
    arithmetic,
    choice,
    compared,
    constant,
    filtered,
    item,
    logic,
    negation,
    tested,
)

# Real ones have less than 100 characters; these bounds keep a hostile one from costing more than its own length.
MAX_LENGTH = 1000
MAX_TOKENS = 250
MAX_DEPTH = 16


_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?)
    |(?P<string>'[^'\\]{0,200}'|"[^"\\]{0,200}")
    |(?P<name>[A-Za-z_][A-Za-z0-9_]{0,99})
    |(?P<sign>==|!=|<=|>=|[-+*/|.,()\[\]<>]))""",
    re.VERBOSE | re.ASCII,
)
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

    def whole(self) -> Node:
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

    def _ternary(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableTemplate("nested too deep")
        node = self._logic("or")
        if self._take("if"):
            condition = self._logic("or")
            self._expect("else")
            node = choice(condition, node, self._ternary())
        self._depth -= 1
        return node

    def _logic(self, word: str) -> Node:
        nodes = [self._logic_part(word)]
        while self._take(word):
            nodes.append(self._logic_part(word))
        return nodes[0] if len(nodes) == 1 else logic(word == "or", tuple(nodes))

    def _logic_part(self, word: str) -> Node:
        return self._logic("and") if word == "or" else self._comparison()

    def _comparison(self) -> Node:
        if self._take("not"):
            return negation(self._comparison_of_sums())
        return self._comparison_of_sums()

    def _comparison_of_sums(self) -> Node:
        node = self._sum()
        if sign := self._take(*COMPARISONS):
            return compared(COMPARISONS[sign], node, self._sum())
        if self._take("is"):
            negated = bool(self._take("not"))
            test = self._take("defined", "none", "number")
            if not test:
                raise UnreadableTemplate("a test other than defined, none and number")
            node = tested(test, node)
            return negation(node) if negated else node
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._take("+", "-"):
            node = arithmetic(sign, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._unary()
        while sign := self._take("*", "/"):
            node = arithmetic(sign, node, self._unary())
        return node

    def _unary(self) -> Node:
        negative = bool(self._take("-"))
        node = self._postfixed(self._primary())
        if negative:
            node = arithmetic("-", constant(0), node)
        while self._take("|"):
            name = self._name()
            node = filtered(name, node, self._arguments() if self._peek() == "(" else [])
        return node

    def _postfixed(self, node: Node) -> Node:
        while True:
            if self._take("."):
                key = self._name()
                self.keys.append(key)
                node = item(node, constant(key))
            elif self._take("["):
                kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
                if kind == "string":
                    self.keys.append(text[1:-1])
                node = item(node, self._ternary())
                self._expect("]")
            else:
                return node

    def _name(self) -> str:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "name":
            self._at += 1
            return self._tokens[self._at - 1][1]
        raise UnreadableTemplate("a name is missing")

    def _arguments(self) -> list[Node]:
        self._expect("(")
        nodes: list[Node] = []
        while not self._take(")"):
            if nodes:
                self._expect(",")
            nodes.append(self._ternary())
        return nodes

    def _primary(self) -> Node:
        if self._at >= len(self._tokens):
            raise UnreadableTemplate("it ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return constant(int(text) if text.isdigit() else float(text))
        if kind == "string":
            return constant(text[1:-1])
        if text == "(":
            node = self._ternary()
            self._expect(")")
            return node
        if kind == "name" and text in _CONSTANTS:
            return constant(_CONSTANTS[text])
        if text in {"value", "value_json"}:
            self.needs_json = self.needs_json or text == "value_json"
            return lambda names: names[text]
        if text in {"float", "int"} and self._peek() == "(":
            arguments = self._arguments()
            if arguments:
                return filtered(text, arguments[0], arguments[1:])
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


__all__ = ["MAX_LENGTH", "UNDEFINED", "NoValue", "UnreadableTemplate", "ValueTemplate"]
