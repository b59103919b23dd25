r"""What JSON is, by RFC 8259 to the letter: decides where a parser has limits of its own.

Parsers refuse some valid JSON: nesting deeper than their stack, and ``"\ud800"``, a surrogate on its own, which the
grammar allows. This checker has no such limit; it is slower than they are, and takes time in proportion to the text.
"""

from __future__ import annotations

import re

# Possessive (``*+``): what matched is never given back, so that no text takes more than linear time or keeps a stack.
_TOKEN = re.compile(
    rb"""[ \t\n\r]*+ (?:
        (?P<open> [\[{] )
      | (?P<close> [\]}] )
      | (?P<comma> , )
      | (?P<colon> : )
      | (?P<string> " (?: [^"\\\x00-\x1f]++ | \\ (?: ["\\/bfnrt] | u[0-9a-fA-F]{4} ) )*+ " )
      | (?P<scalar> -?+ (?: 0 | [1-9][0-9]*+ ) (?: \.[0-9]++ )?+ (?: [eE][+-]?+[0-9]++ )?+ | true | false | null )
    )""",
    re.VERBOSE,
)
_SPACE = re.compile(rb"[ \t\n\r]*+")

# What may come next. The texts are the names of the token's groups.
_VALUE = frozenset({"open", "string", "scalar"})
_FIRST_ITEM = _VALUE | {"close"}
_NAME = frozenset({"string"})
_FIRST_NAME = _NAME | {"close"}
_COLON = frozenset({"colon"})
_NEXT = frozenset({"comma", "close"})
_NOTHING: frozenset[str] = frozenset()


def is_json(text: bytes) -> bool:
    """Whether ``text``, which is valid UTF-8, is one JSON value with nothing but JSON's own white space around it."""
    open_brackets = bytearray()
    expected, position = _VALUE, 0
    while expected:
        token = _TOKEN.match(text, position)
        if token is None or token.lastgroup not in expected:
            return False
        position = token.end()
        match token.lastgroup:
            case "open":
                open_brackets += token["open"]
                expected = _FIRST_ITEM if token["open"] == b"[" else _FIRST_NAME
                continue
            case "close":
                if bytes(open_brackets[-1:]) + token["close"] not in (b"[]", b"{}"):
                    return False
                open_brackets.pop()
            case "comma":
                expected = _VALUE if open_brackets[-1:] == b"[" else _NAME
                continue
            case "colon":
                expected = _VALUE
                continue
            case "string" if expected in (_NAME, _FIRST_NAME):
                expected = _COLON
                continue
        # A value has ended.
        expected = _NEXT if open_brackets else _NOTHING
    return _SPACE.fullmatch(text, position) is not None
