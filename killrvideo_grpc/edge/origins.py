"""The check of CORS origins. Envoy would refuse bad ones, or silently never match them."""

import math
import re

# What Python and RE2 read alike, without upper case, paths and other characters that no origin has.
SYNTAX = re.compile(
    r"\^?(?:\((?:\?:)?|[)|.]|://|[a-z0-9:_-]|\\[dw.:\[\]-]|\[\^?(?:[a-z0-9_.:-]|\\[dw.-])+\]"
    r"|(?:(?<=[.\])])(?<!\\.)\*|[+?]|\{\d{1,3}(?:,\d{0,3})?\})\??(?![*+?{]))+\$?"
)
NAME = r"[a-z][a-z0-9-]*\??"
SCHEME = re.compile(rf"\^?(?:\((?:\?:)?)*{NAME}(?:\|{NAME})*\)?://[^)|$]")
GROUP = re.compile(r"\([^()]*\)")
COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
MAX_LENGTH, MAX_COUNT = 255, 100  # keep RE2's programs small; counts in groups with counts multiply


def is_origin_pattern(pattern: str) -> bool:
    """Return whether the regular expression can match an origin (a scheme, a host and a port), and RE2 accepts it."""
    if len(pattern) > MAX_LENGTH or not (SYNTAX.fullmatch(pattern) and SCHEME.match(pattern)):
        return False
    if math.prod(int(most or least) or 1 for least, most in COUNT.findall(pattern)) > MAX_COUNT:
        return False
    alternatives = _without_groups(pattern).split("|")
    if len(alternatives) > 1 and not all("://" in alternative for alternative in alternatives):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _without_groups(pattern: str) -> str:
    shorter = GROUP.sub("", pattern)
    return shorter if shorter == pattern else _without_groups(shorter)
