"""Texts that something, somewhere, has stumbled over. Ours, written down by what they try."""

from __future__ import annotations

LIKE_VALUES = [
    "0", "-0", "1e400", "NaN", "-Infinity", "0x1F", "1_000", "٣٤", "½", "true", "False", "null",
    "None", "undefined", "nil", "NULL", "[]", "{}", "[object Object]", "1,5", "007", "2026-02-30",
    "24:00:60", "1970-01-01T00:00:00Z", "9" * 60, "0.1e-999", "١٢٣", "#REF!", "yes", "~",
]  # fmt: skip
SQL_AND_FILTERS = [
    "' OR '1'='1", "'; DROP TABLE console_user; --", '" OR ""="', "1); SELECT pg_sleep(9)--",
    "\\'; --", "%", "_", "100%_\\%", "$1", ":name", "?", "{0}", "%s%n%d", "/* */",
    "x' UNION SELECT 1", "state:failed", 'error:"', "age>1h)", "args.a:1 OR", "(*)(uid=*)",
    "$where: 1", "{$ne: null}",
]  # fmt: skip
MARKUP_AND_TEMPLATES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</textarea><svg/onload=1>",
    "javascript:alert(1)", "&lt;b&gt;&amp;", "&#0;", "<![CDATA[x]]>", "<!--", "{{7*7}}", "${7*7}",
    "#{7*7}", "<%= 7 %>", "{% raw %}", "__proto__", "constructor.prototype", "`id`", "$(id)",
    "| id", "; id", "&& id", "*.*", "~root", "!!python/object:os.system", "- a: b", "a: b # c",
    '{"$input": "who"}', '{"a": 1', "\\u0041", "\\x41\\", "%41%2f%00", "+", "a+b c",
    "=cmd|'/c'!A1", "=1+1", "@SUM(1)", "-2+3", "+49 30 123", '"quoted","csv"', "a;b", "(?:a+)+$",
    "[a-", ".*", "^$",
]  # fmt: skip
PATHS_AND_NAMES = [
    "../../etc/passwd", "..\\..\\boot.ini", "/", "//", "a/b", "C:\\", "file:///etc/passwd", ".",
    "..", "CON", "aux.txt", "http://[::1]:0/", "//evil.test", "a@b@c", "user:pass@host",
    "a#b?c=d&e", "-rf", "--", "name with spaces", "a,b", "x" * 90, "😀/😀", "%2e%2e%2f",
]  # fmt: skip
UNICODE = [
    "é", "é", "ÅÅÅ", "ﬃ", "ß", "ẞ", "İı", "Ǆ", "ς", "你好，世界", "こんにちは", "안녕하세요",
    "שלום", "مرحبا", "\u202edesrever\u202c", "\u2066isolated\u2069", "สวัสดี", "हिन्दी", "\ua66e",
    "𝔘𝔫𝔦", "ｆｕｌｌ", "①②③", "a\u200bb", "a\u200db", "a\ufeffb", "\ufeff", "a\xadb", " ",
    "\u2060", "\u3000", "Z\u0351\u036b\u0313a\u0334lg\u0337o\u0338", "à" + "\u0316" * 40, "😀",
    "👩\u200d👩\u200d👧\u200d👦",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "👍🏿", "🇩🇪", "☃\ufe0f",
    "\U0001fae8", "\U00020000", "\ue000", "\ufffd", "\ufffe", "\uffff", "\U0010ffff",
    "\U0001ffff", "\u0345", "\u115f", "\u2800", "∀x∈ℝ", "™©®", "“quotes”", "naïve café",
]  # fmt: skip
SPACES = [" ", "  two", "trailing ", " leading", "a  b"]
ONE_LINE = [*LIKE_VALUES, *SQL_AND_FILTERS, *MARKUP_AND_TEMPLATES, *PATHS_AND_NAMES, *UNICODE]
"""What is one line of text."""
CONTROLS = [
    "\0", "a\0b", "\x01\x02", "\x07", "\b", "\t", "\n", "\r\n", "a\r\nSet-Cookie: x=1",
    "\x0b\x0c", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x7f", "\x80\x9f", "\x85", "\u2028",
    "\u2029", "line one\nERROR line two", "\x1a",
]  # fmt: skip
"""What would begin a new line, or move a terminal's cursor."""
WHOLE = [*ONE_LINE, *SPACES, *CONTROLS]
HALF = ["\ud800", "a\udfffb", "\udc00\ud800"]
"""Half of a character: JSON can write it, and no store can keep it."""


def lines_of(most: int) -> list[str]:
    """Return all that is one line in as few texts of at most `most` characters as it takes."""
    found, line = [], ""
    for text in ONE_LINE:
        if line and len(line) + 1 + len(text) > most:
            found.append(line)
            line = ""
        line = f"{line} {text}" if line else text
    return [*found, line]
