r"""One notation for answers that people and models write in many.

``plain`` settles characters: what Unicode spells in several ways becomes ASCII or a LaTeX command.
``normalise`` settles the notation of a whole answer: wrappers, fonts, sizes and spaces that mean
nothing go, and each sign has one spelling. ``parts`` and ``unwrap`` read the structure of what is
left. All take time linear in the text, and never raise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Characters.

_GREEK = (
    "\u03b1\u03b2\u03b3\u03b4\u03b5\u03b6\u03b7\u03b8\u03b9\u03ba\u03bb\u03bc\u03bd\u03be\u03c0\u03c1\u03c3"
    "\u03c4\u03c5\u03c6\u03c7\u03c8\u03c9\u0393\u0394\u0398\u039b\u039e\u03a0\u03a3\u03a6\u03a8\u03a9"
)
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma "
    "tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63", "-"),
        # Marks that take no room: zero width, soft hyphen, direction of writing.
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u061c"),
        **dict.fromkeys("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"),
        "\u2044": "/", "\u2215": "/", "\u2236": ":", "\u00b0": r"^\circ ", "\u2032": "'",
        "\u00d7": r"\times ", "\u00f7": r"\div ", "\u2217": "*", "\u221a": r"\sqrt ",
        "\u221b": r"\sqrt[3]",
        **dict.fromkeys("\u00b7\u22c5\u2219", r"\cdot "),
        "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u221e": r"\infty ", "\u2220": r"\angle ",
        "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\ne ", "\u2248": r"\approx ",
        "\u2243": r"\approx ", "\u2261": r"\equiv ", "\u2208": r"\in ", "\u2205": r"\emptyset ",
        "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2216": r"\setminus ", "\u2192": r"\to ",
        "\u21d2": r"\implies ", "\u2234": r"\therefore ", "\u27e8": r"\langle ",
        "\u27e9": r"\rangle ", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',
        **{letter: f"\\{name} " for letter, name in zip(_GREEK, _GREEK_NAMES.split(), strict=True)},
    }
)  # fmt: skip
_BLACKBOARD = str.maketrans(
    {"\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}", "\u2115": r"\mathbb{N}",
     "\u211a": r"\mathbb{Q}", "\u2102": r"\mathbb{C}", "\u00ba": "\u00b0"}
)  # fmt: skip
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207f]+")
_LOWERED = re.compile("[\u2080-\u208e]+")
_VULGAR = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215f])")


def plain(text: str) -> str:
    r"""``text`` with one spelling of each character: "\u22125" is "-5", "\u215e" "7/8"."""
    if text.isascii():
        return text
    text = _VULGAR.sub(" ", text.translate(_BLACKBOARD))
    text = _RAISED.sub(lambda run: f"^{{{unicodedata.normalize('NFKC', run.group())}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{unicodedata.normalize('NFKC', run.group())}}}", text)
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


_THOUSANDS = re.compile(r"\{,\}|(?<=[0-9])(?:,\\!|\\[,!](?=[0-9]{3}(?![0-9])))")


def grouped(text: str) -> str:
    r"""``text`` with a comma for what LaTeX writes between thousands: "1\,234", "1{,}234"."""
    return _THOUSANDS.sub(",", text)


# Notation.

_END = "(?![A-Za-z])"
_FONTS = r"(?:text(?:bf|rm|it|sf|tt|up|normal)?|mbox|hbox|math(?:rm|it|bf|sf|tt)|operatorname)"
_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # What only looks: sizes, fonts, spaces, marks.
        (rf"\\(?:left|right)(?:\.|{_END})|\\(?:[bB]igg?[lrm]?|middle){_END}", ""),
        (rf"\\(?:(?:display|text|script)style|(?:no)?limits|tiny|small|normalsize|[lL]arge|LARGE"
         rf"|[hH]uge|boxed|fbox|bf|rm|it|boldmath|checkmark){_END}|\\!|[\u2713\u2714]", ""),
        (r"\\tag\{[^{}]*\}", ""),
        (rf"\\(?:boldsymbol|bm|pmb){_END}", r"\\mathbf"),
        (r"(?<!\\)\\[,:;> ]|~|\\q?quad(?![A-Za-z])|\s+", " "),
        (rf"\\{_FONTS} *\{{ *", r"\\text{"),
        (r" +\}", "}"), (r"(?:\\\\ *)+(?=\\end\{)", ""),
        (r"\\text\{([^\w{}]*)\}", r"\1"),
        # Signs with several names.
        (r"\\[dtc]frac", r"\\frac"), (r"\\[dt]binom", r"\\binom"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"), (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (rf"\\langle{_END}", "("), (rf"\\rangle{_END}", ")"), (rf"\\[lr]?vert{_END}", "|"),
        (rf"\\leq(?:slant)?{_END}|<=", r"\\le "), (rf"\\geq(?:slant)?{_END}|>=", r"\\ge "),
        (rf"\\lt{_END}", "<"), (rf"\\gt{_END}", ">"), (rf"\\neq{_END}|(?<![0-9)}}])!=", r"\\ne "),
        (rf"\\(?:cdot|ast){_END}|(?<!\*)\*(?!\*)", r"\\cdot "), (r"\*\*", "^"),
        (rf"\\(?:simeq|thickapprox|doteq){_END}", r"\\approx "),
        (rf"\\(?:varnothing|empty){_END}|\\\{{ *\\\}}", r"\\emptyset "),
        (r"(?<=[)\]]) ?U ?(?=[(\[])", r"\\cup "), (rf"\\backslash{_END}", r"\\setminus "),
        (r"\\mathbb *([A-Z])", r"\\mathbb{\1}"), (r"\\R(?![A-Za-z])", r"\\mathbb{R}"),
        (r"(?<![\\A-Za-z])(?:[Ii]nfinity|infinite|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"\+ *\\infty", r"\\infty"), (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
        (r"\\(?:[lc]?dots|dotsc)(?![A-Za-z])|\.\.\.", r"\\dots "),
        (r"(?<![\\A-Za-z])sqrt", r"\\sqrt"), (r"\\sqrt *\(([^()]*)\)", r"\\sqrt{\1}"),
        # Units and words that are signs.
        (r"(?i)\(?(?<![a-z\\])(?:approximately|approx\.?|roughly|about)(?![a-z])\)?", ""),
        (r"\\frac *\{ *\\text\{([^{}]*)\} *\} *\{ *\\text\{([^{}]*)\} *\}", r"\\text{\1/\2}"),
        (r"(?i)^(?:\\text\{)?(?:no (?:real )?solutions?|(?:the )?empty set)\}?$", r"\\emptyset"),
        (r"(?i)^(?:\\text\{)?(?:all )?(?:the )?real(?: number)?s\}?$|^\(-\\infty *, *\\infty *\)$",
         r"\\mathbb{R}"),
        (r"\^ *\{? *\\(?:circ|degree) *\}?|\\degree(?![A-Za-z])", r"\\text{degree}"),
        (r"(?<=[0-9}])(?: *\\text\{| *)(?:per ?cent(?:age)?|pct)\b\}?|\\%", "%"),
        (r"(?<=[0-9])(?:\^? *\{? *\\text\{|\^\{|\^)? *(?:st|nd|rd|th)\b\}{0,2}", ""),
        (r"(?<![A-Za-z\\]),? *(?:\\text\{)?,? *(?<![A-Za-z])(?:and|or)(?![A-Za-z]) *,?\}?", ","),
        # Braces that group nothing.
        (r"([_^]) *\{ *(\w) *\}", r"\1\2"), (r"([_^]) *(-?[0-9]{2,}|-[0-9])", r"\1{\2}"),
        (r"\\log_(?:e|\{e\})", r"\\ln "),
        (r"(\\log_(?:\w|\{[^{}]*\})) +([0-9.]+|[A-Za-z])", r"\1{\2}"),
        (r"\\frac *([0-9A-Za-z])", r"\\frac{\1}"), 
        (r"(\\frac\{(?:[^{}]|\{[^{}]*\})*\}) *([0-9A-Za-z])", r"\1{\2}"),
        (r"\\sqrt(\[\w+\])? *([0-9A-Za-z])", r"\\sqrt\1{\2}"),
        (r"\\(?:overline|overleftrightarrow) *\{([A-Z]{2})\}", r"\1"),
    )
]  # fmt: skip
"""One spelling for what has several, in this order."""

_NEGATION = r"not?|never|nor|neither|wrong|incorrect|false|except|but|without|isn't|cannot|can't"
NEGATION = re.compile(rf"(?i)(?<![A-Za-z])(?:{_NEGATION})(?![A-Za-z])")
"""Words that turn round what is said after them."""

_LEAD = re.compile(
    r"(?:\\(?:implies|Rightarrow|therefore|to|approx|sim)(?![A-Za-z])|[=:~\u2192]|(?i:"
    r"(?:\\text\{)?(?:[a-z' ]*(?<![a-z])(?:is|are|equals?)(?![a-z])|[a-z ]*answer(?![a-z]))"
    r"(?: *\}| *:)*(?=[ \\\d(\[{+$.-])))[ :=]*"
)
_WRAPPERS = ((r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ("$", "$"), ("*", "*"))
_WHOLE_TEXT = re.compile(r"\\text(?:bf|rm|it|normal)?\{([^{}]*)\}")
_SPACE = re.compile(r" +(?![A-Za-z0-9])|(?<![A-Za-z0-9}%]) +|(\\[A-Za-z]+) +(?![A-Za-z])")
_BUILDER = re.compile(r"\\\{ *\\?[A-Za-z]+ *(?:\\mid(?![A-Za-z])|[:|])(.*)\\\}")


def normalise(text: str) -> str:
    """An answer in the one notation that answers are compared in."""
    text = plain(text).strip()
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:  # else one is a currency sign
        text = re.sub(r"(?<!\\)\$", "", text)
    text = _bare(grouped(text.replace(r"\$", "$")))
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = re.sub(r" +", " ", _SPACE.sub(r"\1", _bare(text)))
    if builder := _BUILDER.fullmatch(text):
        text = builder[1].strip()
    return text.strip()


def _bare(text: str) -> str:
    """``text`` without what is around the whole of it, and without what leads up to it."""
    for _ in range(4):  # "**$5$.**" is wrapped three times
        before = text
        text = text.strip()
        if not text.endswith(("...", r"\,", r"\;", r"\:")):
            text = text.rstrip(".,;: ")
        text = re.sub(r"(?:(?<!\\)\\[,;:!]?|\\\\)$", "", text)
        if (lead := _LEAD.match(text)) and not NEGATION.search(lead.group()):
            text = text[lead.end() :]
        if whole := _WHOLE_TEXT.fullmatch(text):
            text = whole[1]
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if inner and text.startswith(opening) and text.endswith(closing):
                if closing not in inner:
                    text = inner
                break
        if text == before:
            break
    return text


# Structure.

_TOKEN = re.compile(r"\\(?:begin|end)\{[^{}]*\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING, _CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The tokens of a text, each with where it starts and its depth in brackets."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        depth += (token in _OPENING or token.startswith(r"\begin")) - (
            token in _CLOSING or token.startswith(r"\end{")
        )
        yield token, match.start(), depth


def split(text: str, *separators: str) -> list[str]:
    """``text`` cut at the separators, each a token, that stand outside all brackets."""
    pieces, start = [], 0
    for token, at, depth in _tokens(text):
        if depth == 0 and token in separators:
            pieces.append(text[start:at].strip())
            start = at + len(token)
    return [*pieces, text[start:].strip()]


_MATRIX = r"\\begin\{[pbB]?matrix\}((?:(?!\\begin|\\end)[^%s])*)\\end\{[pbB]?matrix\}"
_COLUMN, _ROW = re.compile(_MATRIX % "&"), re.compile(_MATRIX % r"\\" + r"\^T")


def columns_as_tuples(text: str) -> str:
    r"""``text`` with each column written as a tuple, and each row to the power of T."""
    text = _COLUMN.sub(lambda found: f"({','.join(found[1].split(_BREAK))})", text)
    return _ROW.sub(lambda found: f"({found[1].replace('&', ',')})", text)


_BREAK = "\\\\"


def unwrap(text: str) -> tuple[str, str]:
    """The brackets around the whole of a text, "" if there are none, and what they hold."""
    for opening in _OPENING:
        for closing in _CLOSING:
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and text != opening:
                if closing == "}" and text.endswith(r"\}"):
                    continue
                if all(depth >= 0 for _, _, depth in _tokens(inner)):
                    return opening + closing, inner.strip()
    return "", text
