"""Texts that are JSON and texts that are not, and Python's own parser as their judge."""

import json

from hypothesis import strategies as st

VALID = [
    *(
        "null",
        "true",
        "false",
        '""',
        '"a"',
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,2]",
        "[[[]]]",
        "[{}]",
        '{"a":1}',
        '{"":null}',
    ),
    *("0", "-0", "-0.0", "1", "10", "1.5", "-1.50e+10", "1E5", "0e0", "1e-05"),
    *("1e999", "-1e999", "9" * 5000, "0." + "1" * 5000),
    *('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uFFFF"', '"\\ud800"', '"\\udc00\\ud800"', '{"\\uDFFF":0}'),
    *('"\x7f"', '"\u2028\ufeff"', '"é 東 🌞"'),
    *('{"a":1,"a":2}', '{"a":{"b":[]}}', '[ 1 ,\t{ "a" :\r"b" } ]'),
    *("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000),
]

INVALID = [
    *("NaN", "Infinity", "-Infinity", "[NaN]", "nan", "None", "True", "nul", "nulll", "true false", "1,2", "1 2"),
    *("+1", ".5", "1.", "-", "-.5", "01", "-01", "00", "1e", "1e+", "1.e5", "1.5.5", "0x10", "1_000", "١", "--1"),
    *('"', '"a', '"\n"', '"\0"', '"\x1f"', '"\t"', "'a'", '"a""b"', '"a" "b"'),
    *('"\\x41"', '"\\u12"', '"\\u12g4"', '"\\"', "\\", '"\\ud8"'),
    *("[", "]", "[1", "[1,]", "[,1]", "[,]", "[1 2]", "[1]]", "[1}", "[1:2]", "[:]", "[}", "]" * 10),
    *("{", "}", "{1:2}", '{"a"}', '{"a":}', '{"a" 1}', '{"a":1,}', "{,}", '{"a":1 "b":2}', '{"a":1]', "{]"),
    *("{'a':1}", "{a:1}", '{"a"::1}', '{"a":1,,"b":2}', '{"a",1}', "{:1}"),
    *("\ufeff1", "[\xa01]", "[1\u2028]", "[\v]", "[\f1]", "// 1", "1 // one", "/**/1"),
    *("[" * 100_000, "[" * 100_000 + "]" * 99_999),
]
"""Without white space around them, that is as lines are after trimming."""


def json_accepts(text: str) -> bool:
    """Whether Python's own parser takes it; with its additions to JSON, and its limit to digits, switched off."""
    try:
        json.loads(text, parse_constant=_refuse, parse_int=str)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)
JSON_TEXTS = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only), JSON_VALUES, st.booleans()
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    text = draw(JSON_TEXTS).decode()
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 2)))
        text = text[:start] + draw(_DAMAGE) + text[stop:]
    return text


_DAMAGE = st.sampled_from(
    ["", *'{}[]",:\\ntfu019.-+eE \t\n\0\x1f', "\xa0", "\ufeff", "NaN", "\\u", "\\ud8", "''", "//"]
)
DAMAGED = _damaged()
"""JSON with a few characters changed: some of it is still JSON."""
