"""Text that any viewer can show: ASCII, within the length of its value representation (PS3.5 table 6.2-1).

A result object keeps the character set of its study, which may not hold a superscript or a dash, and an
encoder would put a question mark there without saying so.
"""

import unicodedata

REPLACEMENTS: dict[str, str] = {
    "\N{SUPERSCRIPT THREE}": "3",
    "\N{SUPERSCRIPT TWO}": "2",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": ".",
    "\N{MICRO SIGN}": "u",
    "\N{DEGREE SIGN}": " deg",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{LATIN SMALL LETTER SHARP S}": "ss",
    "\N{LATIN SMALL LETTER O WITH STROKE}": "o",
    "\N{LATIN CAPITAL LETTER O WITH STROKE}": "O",
    "\N{LATIN SMALL LETTER AE}": "ae",
    "\N{LATIN CAPITAL LETTER AE}": "AE",
    "\N{LATIN SMALL LETTER L WITH STROKE}": "l",
    "\N{LATIN CAPITAL LETTER L WITH STROKE}": "L",
}
"""What a character becomes; letters with marks lose the marks, anything else becomes a question mark."""

LO_LENGTH = 64
ST_LENGTH = 1024


def ascii_text(text: str) -> str:
    """Return printable ASCII that reads the same."""
    replaced = "".join(REPLACEMENTS.get(character, character) for character in text)
    plain = unicodedata.normalize("NFKD", replaced)
    kept = (character for character in plain if not unicodedata.combining(character))
    return "".join(character if " " <= character <= "~" else " " if character.isspace() else "?" for character in kept)


def long_string(text: str) -> str:
    """Return ASCII text that fits a Long String (LO): at most 64 characters, no backslash."""
    return ascii_text(text).replace("\\", "/").strip()[:LO_LENGTH].strip()


def short_text(text: str) -> str:
    """Return ASCII text that fits a Short Text (ST): at most 1024 characters."""
    return ascii_text(text).strip()[:ST_LENGTH]
