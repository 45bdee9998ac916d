"""Addresses as messages and records may show them: scheme, host and path, and nothing that opens a door."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import unquote

HIDDEN = "***"
MOST = 500  # characters of what a library says
SHORTEST, TOKEN = 6, 16  # characters of a secret, and of one in place of a user, to be looked for elsewhere
# User and password before the host. A secret key may hold slashes, where what stands before them is no port.
_USER = r"(?is)(?<![a-z0-9+.-])([a-z][a-z0-9+.-]{{0,20}}://)((?:(?![/?#]){0})+|[^\s:/@]*:(?!\d+(?:[/?#]|$))(?:(?!://){0})*)@"
_IN_TEXT, _WHOLE = (re.compile(_USER.format(character)) for character in (r"\S", "."))
_QUERY = re.compile(r"""(?i)(https?://[^\s?'"<>]*\?)([^\s'"<>]+)""")
_NAMED = re.compile(
    r"(?i)((?:(?:token|signature|secret|passw|credential|(?:access|account|api)_?-?key)[\w-]{0,20}|\bsig)=)"
    r"""[^\s&'"<>]+"""
)
_SECRET_VARIABLE = re.compile("SECRET|TOKEN|PASSW|_KEY$")


def public(text: str) -> str:
    """One argument or address, whose password may hold blanks and quotes."""
    return redacted(text, set(_inside(text)))


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """Text of any kind without users, passwords, queries and keys of addresses, and without these secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _QUERY.sub(rf"\1{HIDDEN}", _IN_TEXT.sub(rf"\1{HIDDEN}@", text))
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def known_secrets(arguments: Iterable[str]) -> set[str]:
    """Of addresses in the arguments and in the environment, and values of variables that are named as secrets are."""
    named = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= SHORTEST}
    return named.union(*map(_inside, (*arguments, *os.environ.values())))


def _inside(text: str) -> Iterator[str]:
    for _, user in _WHOLE.findall(text):
        password = user.partition(":")[2]
        for secret in (user, password) if password else (user,):
            shortest = SHORTEST if password else TOKEN
            yield from (each for each in (secret, unquote(secret)) if len(each) >= shortest)
    yield from (query for _, query in _QUERY.findall(text))


def reason(error: BaseException, address: str = "") -> str:
    """What a library says, on one line and no longer than it takes."""
    said = " ".join(redacted(str(error), set(_inside(address))).split()) or type(error).__name__
    return said if len(said) <= MOST else f"{said[:MOST]}..."
