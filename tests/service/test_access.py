import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random

import pytest
from limits.storage import MemoryStorage
from starlette.requests import Request
from uvicorn.middleware.proxy_headers import _TrustedHosts

from service import access
from service.access import Access, Guard
from service.errors import RateLimited, Unauthorized
from service.settings import ROOT, Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started

ADDRESS = "192.0.2.1"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """The key of each name, and under ``file`` the path of the file that knows them."""
    (alice, line), (root, admin_line) = access.new("alice"), access.new("root", admin=True)
    path = tmp_path / "keys"
    path.write_text(f"# who has a key\n\n{line}\n{admin_line}\n", encoding="utf-8")
    return {"alice": alice, "root": root, "file": str(path)}


@pytest.fixture
def guarded(tokenizer: Tokenizer, keys: dict[str, str]) -> Client:
    return Client(started([model(tokenizer, EchoEngine())], keys_file=keys["file"]))


def request(app, headers: dict[str, str], client: str | None = ADDRESS) -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "app": app, "client": client and (client, 1), "path": "/x"})


def test_without_keys_and_rate_everybody_is_served_and_nobody_is_admin() -> None:
    caller = Access(Settings()).check(None, ADDRESS)
    assert (caller.name, caller.admin) == (ADDRESS, False)


def test_a_key_names_its_owner(keys: dict[str, str]) -> None:
    known = Access(Settings(keys_file=keys["file"]))
    assert known.check(keys["alice"], ADDRESS).name == "alice"
    assert not known.check(keys["alice"], ADDRESS).admin
    assert known.check(keys["root"], ADDRESS).admin


@pytest.mark.parametrize("given", [None, "", "wrong", "\ud800", "é" * 1000])
def test_no_key_and_a_wrong_key_are_refused(keys: dict[str, str], given: str | None) -> None:
    with pytest.raises(Unauthorized) as refusal:
        Access(Settings(keys_file=keys["file"])).check(given, ADDRESS)
    assert refusal.value.headers == {"WWW-Authenticate": "Bearer"}


def test_the_file_holds_no_key(keys: dict[str, str]) -> None:
    text = Path(keys["file"]).read_text()
    assert keys["alice"] not in text
    assert access.digest(keys["alice"]) in text


def test_every_key_is_another(keys: dict[str, str]) -> None:
    assert len({access.new("x")[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("line", ["alice", "alice 12ab", f"a b {'0' * 64}", f"alice {'0' * 64} root", f"é {'0' * 64}"])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# first\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"keys:2: expected"):
        Access(Settings(keys_file=str(path)))


def test_a_file_that_is_missing_stops_the_server(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Access(Settings(keys_file=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("text", "reason"), [("often", "couldn't parse"), ("9/second;99/hour", "one"), ("0/hour", "0")]
)
def test_a_rate_that_is_none_stops_the_server(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Access(Settings(rate_limit=text))


def test_proxies_are_told_to_uvicorn_also_as_a_socket_for_both_kinds_of_addresses_tells_them() -> None:
    trusted = _TrustedHosts(access.proxies("10.1.0.0/16, 192.0.2.1 ,2001:db8::/32"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::9"):
        assert address in trusted, address
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "192.0.2.2", "::ffff:192.0.2.2", "2001:db9::1", "::1"):
        assert address not in trusted, address
    assert "192.0.2.1" not in _TrustedHosts(access.proxies(""))
    assert "192.0.2.1" in _TrustedHosts(access.proxies("*"))


@pytest.mark.parametrize("text", ["nginx", "10.0.0.1/8", "10.0.0.0/33", "127.0.0.1,*"])
def test_a_proxy_that_uvicorn_would_never_find_stops_the_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"ATTENTIVE_TRUSTED_PROXIES: .*(10|nginx|\*)"):
        access.proxies(text)


def test_a_key_file_is_read_again(keys: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    known = Access(Settings(keys_file=keys["file"]))
    file = Path(keys["file"])
    fresh, line = access.new("bob")
    file.write_text(f"{line}\n", encoding="utf-8")
    assert known.reload() == ""
    assert known.check(fresh, ADDRESS).name == "bob"
    with pytest.raises(Unauthorized):
        known.check(keys["alice"], ADDRESS)
    for break_it in (partial(file.write_bytes, b"\xff\n"), partial(file.write_text, "bob"), file.unlink):
        break_it()
        reason = known.reload()
        assert str(file) in reason
        assert reason in caplog.text
        assert known.check(fresh, ADDRESS).name == "bob"


def test_without_a_key_file_there_is_none_to_read_again() -> None:
    anyone = Access(Settings())
    assert anyone.reload() == ""
    assert anyone.check(None, ADDRESS).name == ADDRESS


def test_the_command_makes_a_key_and_its_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.access", "new", "bob", "--admin"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    key, line = lines[1], lines[-1]
    (tmp_path / "keys").write_text(line, encoding="utf-8")
    assert Access(Settings(keys_file=str(tmp_path / "keys"))).check(key, ADDRESS) == access.Caller("bob", admin=True)


def test_the_command_refuses_a_name_that_would_break_the_file() -> None:
    command = [sys.executable, "-m", "service.access", "new", "bob smith"]
    answer = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert answer.returncode == 2
    assert "letters" in answer.stderr


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("DeepL-Auth-Key abc:fx", "abc:fx"),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
    ],
)
def test_where_a_key_is_read(header: str, key: str | None) -> None:
    assert access.key_of(request(None, {"Authorization": header})) == key


def test_a_key_that_is_handed_over_goes_before_the_header(guarded: Client, keys: dict[str, str]) -> None:
    asked = request(guarded.app, {"Authorization": f"Bearer {keys['alice']}"})
    assert access.check(asked).name == "alice"
    assert access.check(asked, keys["root"]).name == "root"


def test_routes_ask_for_the_key_and_the_others_do_not(guarded: Client, keys: dict[str, str]) -> None:
    body = {"text": "the cat", "source": "en", "target": "fr"}
    for path in ("/v1/models", "/v1/languages"):
        assert guarded.request("GET", path).status_code == 401
    refused = guarded.request("POST", "/v1/translate", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    headers = {"Authorization": f"Bearer {keys['alice']}"}
    assert guarded.request("POST", "/v1/translate", json=body, headers=headers).status_code == 200
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert guarded.request("GET", path).status_code == 200


def test_only_an_admin_passes_where_one_is_needed(client: Client, guarded: Client, keys: dict[str, str]) -> None:
    def allowed(app, key: str) -> bool:
        return run(access.admin(request(app, {"Authorization": f"Bearer {key}"}))).admin

    assert allowed(guarded.app, keys["root"])
    for app, key in ((guarded.app, keys["alice"]), (client.app, keys["root"])):
        with pytest.raises(Unauthorized):
            allowed(app, key)


def test_the_guard_stands_before_its_path_only(keys: dict[str, str]) -> None:
    reached = []

    async def app(scope, receive, send) -> None:
        reached.append(scope["path"])

    guard = Guard(app, Access(Settings(keys_file=keys["file"])), "/closed")
    run(guard({"type": "http", "path": "/open", "headers": []}, None, None))  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        run(guard({"type": "http", "path": "/closed", "headers": []}, None, None))  # type: ignore[arg-type]
    allowed = [(b"authorization", f"Bearer {keys['alice']}".encode())]
    run(guard({"type": "http", "path": "/closed", "headers": allowed}, None, None))  # type: ignore[arg-type]
    assert reached == ["/open", "/closed"]


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 999_960.0  # a whole minute
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_rate_at_its_edge_and_when_to_come_back(clock: Clock) -> None:
    limited = Access(Settings(rate_limit="3/minute"))
    for _ in range(3):
        limited.check(None, ADDRESS)
        clock.now += 1.5
    with pytest.raises(RateLimited) as refusal:
        limited.check(None, ADDRESS)
    assert refusal.value.retry_after == 56
    assert limited.check(None, "192.0.2.2").name == "192.0.2.2"
    clock.now += 55
    with pytest.raises(RateLimited):
        limited.check(None, ADDRESS)
    clock.now += 1
    limited.check(None, ADDRESS)
    with pytest.raises(RateLimited):
        limited.check(None, ADDRESS)


def test_at_the_turn_of_a_minute_nobody_has_the_rate_twice(clock: Clock) -> None:
    limited = Access(Settings(rate_limit="100/minute"))
    clock.now += 59.5
    for _ in range(100):
        limited.check(None, ADDRESS)
    clock.now += 1
    limited.check(None, ADDRESS)
    with pytest.raises(RateLimited) as refusal:
        limited.check(None, ADDRESS)
    assert refusal.value.retry_after == 1


@pytest.mark.parametrize("limit", ["1/hour", "2/hour", "7/minute", "600/minute", "10 per 5 second"])
def test_who_comes_back_when_told_is_let_in(clock: Clock, limit: str) -> None:
    limited, random = Access(Settings(rate_limit=limit)), Random(limit)
    item = access.rate(limit)
    waits = []
    for _ in range(3 * item.amount + 50):
        clock.now += random.expovariate(3 * item.amount / item.get_expiry())
        try:
            limited.check(None, ADDRESS)
        except RateLimited as refusal:
            waits.append(refusal.retry_after or 0)
            clock.now += waits[-1]
            limited.check(None, ADDRESS)
    assert len(waits) > 10
    assert min(waits) >= 1
    assert max(waits) <= item.get_expiry() + 1


def test_who_has_not_asked_for_a_while_is_forgotten(clock: Clock) -> None:
    limited = Access(Settings(rate_limit="3/minute"))
    assert limited.limiter is not None
    storage = limited.limiter.storage
    assert isinstance(storage, MemoryStorage)
    for number in range(100):
        limited.check(None, f"192.0.2.{number}")
    # What is over is removed by a thread that runs once, soon after a request.
    storage.timer.join()
    clock.now += 121
    limited.check(None, ADDRESS)
    storage.timer.join()
    kept = (storage.storage, storage.expirations, storage.events, storage.locks)
    assert all(len(each) <= 1 for each in kept)


def test_with_keys_the_rate_is_the_keys(keys: dict[str, str], clock: Clock) -> None:
    limited = Access(Settings(keys_file=keys["file"], rate_limit="1/hour"))
    limited.check(keys["alice"], ADDRESS)
    with pytest.raises(RateLimited):
        limited.check(keys["alice"], "192.0.2.99")
    limited.check(keys["root"], ADDRESS)


def test_an_ipv6_network_is_one_client(clock: Clock) -> None:
    limited = Access(Settings(rate_limit="1/hour"))
    assert limited.check(None, "2001:db8:1:2::1").name == "2001:db8:1:2::/64"
    with pytest.raises(RateLimited):
        limited.check(None, "2001:db8:1:2:ffff::9")
    limited.check(None, "2001:db8:1:3::1")
    limited.check(None, "")


def test_ipv4_addresses_told_as_ipv6_are_clients_of_their_own(clock: Clock) -> None:
    limited = Access(Settings(rate_limit="1/hour"))
    assert limited.check(None, "::ffff:192.0.2.1").name == "192.0.2.1"
    limited.check(None, "::ffff:192.0.2.2")
    with pytest.raises(RateLimited):
        limited.check(None, "192.0.2.1")


def test_over_its_rate_a_request_is_told_when_to_come_back(tokenizer: Tokenizer, clock: Clock) -> None:
    client = Client(started([model(tokenizer, EchoEngine())], rate_limit="2/minute"))
    clock.now += 1
    assert [client.request("GET", "/v1/models").status_code for _ in range(3)] == [200, 200, 429]
    refused = client.translate(text="the cat")
    assert refused.json()["error"]["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) == 60
