"""Who may ask, and how often: API keys and rates, each of them off unless it is set.

The key file has a line for each key: a name, the SHA-256 of the key and, for a key that may also do what changes the
server, ``admin``. ``python -m service.access new NAME [--admin]`` makes a key and its line. A key has 256 random bits,
so whoever reads a hash can guess nothing from it: a salt or a slow hash would only cost time in every request.
"""

import argparse
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service import errors
from service.settings import Settings

logger = logging.getLogger("attentive")

LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})(?:\s+(admin))?")
SCHEMES = ("bearer", "deepl-auth-key")
PREFIX = "attentive_"
"""Tells people and scanners of leaked secrets what they have found."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that its owner cannot choose: the rest counts as one client."""


@dataclass(frozen=True)
class Caller:
    name: str
    """Of the key; without keys the client's address."""
    admin: bool = False


class Access:
    """The keys and the rate of a server. Raises ``ValueError`` for a key file or a rate that cannot be read, and
    ``OSError`` for a key file that is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self.file = settings.keys
        self.keys = read_keys(self.file) if self.file else None
        self.rate = rate(settings.rate_limit) if settings.rate_limit else None
        # With a moving window the storage never forgets whom it has seen.
        self.limiter = SlidingWindowCounterRateLimiter(MemoryStorage()) if self.rate else None

    def reload(self) -> str:
        """Read the key file again. Why it cannot be read, if so: then the keys stay as they were."""
        try:
            self.keys = read_keys(self.file) if self.file else None
        except (OSError, ValueError) as error:
            logger.error("key file refused: %s", error)
            return str(error)
        return ""

    def check(self, key: str | None, address: str) -> Caller:
        """Raises :class:`service.errors.Unauthorized` and :class:`service.errors.RateLimited`."""
        caller = Caller(network(address)) if self.keys is None else self._owner(key, self.keys)
        if self.limiter is not None and self.rate is not None and not self.limiter.hit(self.rate, caller.name):
            wait = self.limiter.get_window_stats(self.rate, caller.name).reset_time - time.time()
            # At the very moment of the reset the window is still full.
            raise errors.RateLimited(f"at most {self.rate}", retry_after=int(max(wait, 0)) + 1)
        return caller

    @staticmethod
    def _owner(key: str | None, keys: Sequence[tuple[str, Caller]]) -> Caller:
        """Compares with every hash, and each to its end: how long it takes says nothing about the keys."""
        if not key:
            raise errors.Unauthorized("an API key is needed: send it as Authorization: Bearer KEY")
        given = digest(key)
        found = [caller for known, caller in keys if hmac.compare_digest(given, known)]
        if not found:
            raise errors.Unauthorized("the API key is not known")
        return found[0]


def check(request: Request, key: str | None = None) -> Caller:
    """The caller of a request; without a ``key`` the one in its ``Authorization`` header counts.

    Raises :class:`service.errors.Unauthorized` and :class:`service.errors.RateLimited`.
    """
    access: Access = request.app.state.access
    return access.check(key or key_of(request), address_of(request))


def cross_origin(app: ASGIApp, origins: str) -> ASGIApp:
    """``app``, open to pages of these origins, separated by commas, or of all: ``*``. Without any as it is."""
    allowed = [origin.strip() for origin in origins.split(",") if origin.strip()]
    if not allowed:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "X-Request-ID", "traceparent"],
        expose_headers=["Retry-After", "X-Request-ID"],
    )


class Guard:
    """ASGI middleware: :func:`check` for the one route that BentoML answers itself."""

    def __init__(self, app: ASGIApp, access: Access, path: str) -> None:
        self.app, self.access, self.path = app, access, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self.path:
            request = Request(scope)
            self.access.check(key_of(request), address_of(request))
        await self.app(scope, receive, send)


async def required(request: Request) -> Caller:
    """:func:`check` as a dependency of routes whose callers send the key in the header."""
    return check(request)


async def admin(request: Request) -> Caller:
    """As :func:`required`, but the key must be an admin's. Without keys there is no admin, so nobody passes."""
    caller = check(request)
    if not caller.admin:
        raise errors.Unauthorized("an admin's API key is needed")
    return caller


def key_of(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() in SCHEMES else None


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def network(address: str) -> str:
    """``address``, or the network that an IPv6 address belongs to. A socket for both kinds tells IPv4 as IPv6."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(known.ipv4_mapped or ipaddress.ip_network((known, IPV6_NETWORK), strict=False))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def rate(text: str) -> RateLimitItem:
    """As ``600/minute``. Raises ``ValueError``."""
    found = parse_many(text)
    if len(found) != 1 or not found[0].amount:
        raise ValueError(f"ATTENTIVE_RATE_LIMIT is one rate above 0, as 600/minute, and not {text!r}")
    return found[0]


def proxies(text: str) -> str:
    """Addresses and networks as uvicorn reads them, which passes over what is neither; ``*``: all. A socket for both
    kinds of addresses tells IPv4 as IPv6. Raises ``ValueError``.
    """
    listed = [each.strip() for each in text.split(",") if each.strip()]
    if listed == ["*"]:
        return "*"
    try:
        networks = [ipaddress.ip_network(each) for each in listed]
    except ValueError as error:
        raise ValueError(f"ATTENTIVE_TRUSTED_PROXIES: {error}") from error
    mapped = [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in networks if each.version == 4]
    return ",".join([*map(str, networks), *mapped])


def read_keys(path: Path) -> list[tuple[str, Caller]]:
    """Hash and owner of each key. Empty lines and those that begin with ``#`` are passed over."""
    keys = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := LINE.fullmatch(line.strip())):
            raise ValueError(f"{path}:{number}: expected a name, the SHA-256 of a key and perhaps 'admin'")
        keys.append((match[2], Caller(match[1], admin=match[3] is not None)))
    return keys


def new(name: str, *, admin: bool = False) -> tuple[str, str]:
    """A fresh key, and its line for the key file."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = " ".join([name, digest(key), *(["admin"] if admin else [])])
    if not LINE.fullmatch(line):
        raise ValueError("a name has 1 to 64 letters, digits, dots, hyphens or underscores")
    return key, line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.access")
    parser.add_argument("command", choices=["new"])
    parser.add_argument("name", help="whose key it is")
    parser.add_argument("--admin", action="store_true", help="the key may also reload models")
    arguments = parser.parse_args()
    try:
        key, line = new(arguments.name, admin=arguments.admin)
    except ValueError as error:
        parser.error(str(error))
    print(f"The key, which is shown only now:\n{key}\n\nThe line for the file ATTENTIVE_KEYS_FILE names:\n{line}")


if __name__ == "__main__":
    main()
