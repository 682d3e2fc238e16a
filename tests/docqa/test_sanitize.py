from hypothesis import given
from hypothesis import strategies as st

from docqa.sanitize import MAX_COMBINING, sanitize, sanitize_line

HOSTILE = {
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "c1 csi": "\x9b31m",
    "c1 osc": "\x9d0;title\x9c",
    "bidi": "abc\u202edcba",
    "isolate": "\u2066x\u2069",
    "tags": "a\U000e0041\U000e007f",
    "bell and nul": "\x07\x00",
    "delete": "\x7f",
    "surrogate": "\ud800",
    "carriage return": "safe\rEVIL",
}


def test_nothing_a_terminal_obeys_is_left():
    forbidden = set(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)])) - {
        "\n",
        "\t",
    }
    for name, text in HOSTILE.items():
        clean = sanitize(text)
        assert not forbidden & set(clean), name
        assert len(clean) == len(text), name
        assert not any(0xD800 <= ord(c) < 0xE000 or ord(c) >= 0xE0000 for c in clean), name


def test_what_is_shown():
    assert sanitize("\x1b[31mred\n\tend") == "␛[31mred\n\tend"
    assert sanitize("naïve – 日本語 😀 👩\u200d🔧") == "naïve – 日本語 😀 👩\u200d🔧"
    assert sanitize_line("a\nb\x1b") == "a␊b␛"


def test_combining_marks_are_capped():
    assert sanitize("e" + "\u0301" * 50 + "x") == "e" + "\u0301" * MAX_COMBINING + "x"


@given(st.text())
def test_idempotent_and_never_longer(text):
    clean = sanitize(text)
    assert sanitize(clean) == clean
    assert len(clean) <= len(text)
