"""The reference's patterns: what stands in and around answers, over bytes; the signs beyond ASCII among them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction


def pattern(source: str) -> re.Pattern[bytes]:
    """Return a pattern over bytes that ignores case; white space in the source does not count."""
    return re.compile(source.encode(), re.VERBOSE | re.DOTALL | re.IGNORECASE)


WIDE_SPACE = r"(?: \xc2\xa0 | \xe2\x80[\x80-\x8a\xaf] | \xe2\x81\x9f | \xe3\x80\x80 )"
BLANK = rf"(?: [ \t] | {WIDE_SPACE} )"
BLANKS = rf"(?: {BLANK} )*"
GAP = rf"(?: [ \t\n\v\f\r] | {WIDE_SPACE} )*"
SIGN = r"(?: [+-] | − | ‐ | ‑ | ‒ | – | ﹣ | － )"
CURRENCY = r"(?: \\?\$ | € | £ | ¥ )"
TIMES = r"(?: [*xX] | × )"
SEPARATOR = rf"(?: ,\\! | \\!, | \\, | \{{,\}} | , | ' | ’ | {WIDE_SPACE} )"
TEXT = r"(?: \\(?-i: text(?:bf|it|rm)? | mathrm | mathbf | mbox ) \{ )"
DEGREE = r"(?: \^\\(?-i:circ)(?![a-z]) | \^\{\\(?-i:circ)\} | ° )"
COMMAND = rf"(?: (?! {TEXT} | \\(?-i: circ | q?quad )(?![a-z]) ) \\[a-z] )"
MATH = r"(?: \$\$ | \\[(\[] | (?<!\\) \$(?= (?: \\[^\n] | [^$\\\n] )* (?<![ \t]) \$ (?!\d) ) )"
CLOSER = r"(?: \} | \$ | \\\) | \\\] )"
LATEX_SPACE = r"(?: ~ | \\[ ,;:!] | \\(?-i: q?quad )(?![a-z]) )"
CLOSE_MATH = r"(?: (?: \\[^)\]] | [^$\\] )* (?: \$\$? | \\[)\]] ) )"

# ------------------------------------------------------------------------------------------- signs beyond ASCII ----

FRACTIONS = {sign: Fraction(unicodedata.numeric(sign)).limit_denominator(10) for sign in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def ranges(*bounds: tuple[int, int]) -> frozenset[str]:
    return frozenset(chr(code) for first, last in bounds for code in range(first, last + 1))


MAKES_EXPRESSION = ranges(
    (0xB2, 0xB3), (0xB9, 0xB9), (0x3C0, 0x3C0), (0x2070, 0x209C), (0x221A, 0x221C), (0x221E, 0x221E)
)
INDIAN = ((block + 6, block + 15) for block in range(0x960, 0xD61, 0x80))  # the digits of nine scripts
NUMERIC = ranges(
    *((0xBC, 0xBE), (0x300, 0x36F), (0x660, 0x66C), (0x6F0, 0x6F9), (0xE50, 0xE59), (0x20D0, 0x20F0)),
    *((0x2150, 0x2189), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF)),
    *INDIAN,
)
JOINING = ranges(
    *((0xB1, 0xB1), (0xB7, 0xB7), (0x2022, 0x2022), (0x2044, 0x2044), (0x2190, 0x21FF), (0x2213, 0x2219)),
    *((0x2223, 0x2223), (0x2236, 0x2236), (0x223C, 0x223C), (0x2248, 0x2248), (0x2260, 0x226B), (0x22C5, 0x22C5)),
)


def character(text: bytes, at: int) -> str:
    """Return the character beyond ASCII that stands at `at`, or "" where none does."""
    for length in (2, 3, 4):
        try:
            return found if len(found := text[at : at + length].decode()) == 1 else ""
        except UnicodeDecodeError:
            continue
    return ""


def any_of(signs: Iterable[str]) -> str:
    return f"(?: {' | '.join(sorted(signs))} )"


OPERATOR = rf"(?: \^ | : | ~ | {SIGN} | {TIMES} | // | / | ÷ | {any_of(JOINING)} )"
