"""Access control."""

import io
import logging
from base64 import b64encode
from ipaddress import IPv4Address
from pathlib import Path
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Authorization

from api.access.keys import KeyFile
from api.tests.conftest import MakeApp
from runtime import logs
from runtime.errors import KeysUnavailable

FAILED = {"success": False, "prediction": None, "score": None}

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
OTHERS_PAGE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        OWN_PAGE,
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost"},  # behind a proxy that terminates TLS
        {"Origin": "http://localhost:8080", "Host": "localhost:8080"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    ],
)
def test_programs_and_the_page_itself_may_send(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/feedback", data={"report": "wrong"}, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/predict", "/feedback", "/nowhere"])
@pytest.mark.parametrize(
    "headers",
    [
        OTHERS_PAGE,
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "Same-Origin, cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:8080"},
        {"Origin": "http://[broken"},
    ],
)
def test_other_sites_pages_may_not(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    response = client.post(path, data={"report": "wrong"}, headers=headers)
    assert response.status_code == 403
    assert response.headers["X-Error"].startswith("cross-site: ")


def test_the_refusal_of_a_prediction_has_its_fixed_form(client: FlaskClient, dog: bytes) -> None:
    response = client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, headers=OTHERS_PAGE)
    assert (response.status_code, response.get_json()) == (403, FAILED)


def test_a_link_from_another_site_opens_the_page(client: FlaskClient) -> None:
    assert client.get("/", headers=OTHERS_PAGE).status_code == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("192.0.2.7", True),  # nobody can redirect an IP address
        ("pictures.example:8080", True),
        ("Pictures.Example", True),
        ("a.example.org", True),
        ("evil.example", False),
        ("evil.example:5000", False),
        ("pictures.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("[::1", False),
    ],
)
def test_requests_may_ask_for_an_address_or_a_trusted_name(make_app: MakeApp, host: str, allowed: bool) -> None:
    client = make_app(trusted_hosts="pictures.example, .example.org").test_client()
    assert client.get("/", headers={"Host": host}).status_code == (200 if allowed else 400)


@pytest.mark.parametrize(
    ("settings", "any_name"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),  # noqa: S104 - nothing listens
        ({"trusted_proxies": 1}, True),
        ({"host": "0.0.0.0", "trusted_hosts": "localhost"}, False),  # noqa: S104
    ],
)
def test_by_default_a_service_of_one_machine_has_no_other_name(
    make_app: MakeApp, settings: dict[str, object], any_name: bool
) -> None:
    response = make_app(**settings).test_client().get("/", headers={"Host": "evil.example"})
    assert response.status_code == (200 if any_name else 400)


def test_with_keys_it_may_have_any_name(closed: FlaskClient, keys: KeyFile) -> None:
    assert closed.get("/", headers={"Host": "pictures.example"}, auth=("", keys.add("alice"))).status_code == 200


def test_a_page_whose_name_leads_here_sends_nothing_and_sees_nothing(client: FlaskClient, dog: bytes) -> None:
    rebound = {"Host": "evil.example:5000", "Origin": "http://evil.example:5000", "Sec-Fetch-Site": "same-origin"}
    response = client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, headers=rebound)
    assert (response.status_code, response.get_json()) == (400, FAILED)
    assert response.headers["X-Error"].startswith("untrusted-host: ")
    assert client.get("/display/x", headers=rebound).status_code == 400


@pytest.fixture
def address() -> str:
    """Return an address whose requests no other test counts."""
    return str(IPv4Address(uuid4().int % 2**32))


def test_an_address_may_send_so_many_requests_and_another_one_its_own(
    make_app: MakeApp, redis_url: str, address: str
) -> None:
    client = make_app(redis_url=redis_url, rate_limit="2/day").test_client()
    statuses = [client.get("/", environ_base={"REMOTE_ADDR": address}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert client.get("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}).status_code == 200


def test_a_prediction_too_many_says_when_to_come_back(make_app: MakeApp, redis_url: str, address: str) -> None:
    client = make_app(redis_url=redis_url, rate_limit="1/day").test_client()
    client.get("/", environ_base={"REMOTE_ADDR": address})
    response = client.post("/predict", environ_base={"REMOTE_ADDR": address})
    assert (response.status_code, response.get_json()) == (429, FAILED)
    assert response.headers["X-Error"] == "too-many-requests: At most 1/day are allowed. Try again later."
    assert int(response.headers["Retry-After"]) > 0


def test_health_checks_and_the_pages_own_files_are_not_counted(make_app: MakeApp, redis_url: str, address: str) -> None:
    client = make_app(redis_url=redis_url, rate_limit="1/day").test_client()
    for path in ("/livez", "/readyz", "/static/page.css") * 2:
        assert client.get(path, environ_base={"REMOTE_ADDR": address}, buffered=True).status_code in {200, 503}
    assert client.get("/", environ_base={"REMOTE_ADDR": address}).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded_for", "believed"),
    [
        (0, "203.0.113.1", "192.0.2.1"),  # a client may send anything
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "203.0.113.1, 198.51.100.1", "198.51.100.1"),  # the proxy added the last one
        (2, "203.0.113.1, 198.51.100.1", "203.0.113.1"),
        (2, "203.0.113.1", "192.0.2.1"),  # it did not pass both proxies
        (1, "", "192.0.2.1"),
        (1, '"x, 203.0.113.1', "203.0.113.1"),  # a quotation opened by the client hides nothing
        (1, '"x\\", "y, 203.0.113.1', "203.0.113.1"),
        (1, "unknown, x y, 203.0.113.1", "203.0.113.1"),  # the client's own entries are ignored
        (1, ",203.0.113.1,, ", "203.0.113.1"),  # empty entries do not count
        (1, ", ,", "192.0.2.1"),
        (2, ", 203.0.113.1, , 198.51.100.1", "203.0.113.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.1", "203.0.113.1"),
        (1, "203.0.113.1:40000", "203.0.113.1"),
        (1, "[2001:db8:1:2::9]:40000", "2001:db8:1:2::/64"),
        (1, "[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        (1, "[::1]", "::/64"),
        (1, "fe80::1%eth0", "fe80::/64"),
        (1, "[::ffff:203.0.113.1]:40000", "203.0.113.1"),
    ],
)
def test_an_address_is_believed_from_so_many_proxies(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, proxies: int, forwarded_for: str, believed: str
) -> None:
    counted: list[str] = []
    monkeypatch.setattr("api.access.rates.RateLimiter.count", lambda _, caller, __: counted.append(caller))
    client = make_app(rate_limit="1/day", trusted_proxies=proxies).test_client()
    client.get("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}, headers={"X-Forwarded-For": forwarded_for})
    assert counted == [believed]


@pytest.mark.parametrize(
    ("proxies", "header", "value"),
    [
        *(
            (1, "X-Forwarded-For", value)
            for value in (
                "unknown",
                "unknown:40000",
                "_hidden",
                "localhost",
                '"203.0.113.1"',
                "203.0.113.1, x",
                "203.0.113",
                "203.0.113.01",
                "203.0.113.1:",
                "203.0.113.1:http",
                "[203.0.113.1]",
                "[203.0.113.1",
                "[2001:db8::1",
                "[2001:db8::1]x",
                "2001:db8::1]:80",
                "for=203.0.113.1",
                "203.0.113.1/32",
                "\xb2.0.0.1",
            )
        ),
        (2, "X-Forwarded-For", '"x, 203.0.113.1'),  # where the first proxy's entry must be
        (1, "X-Forwarded-Proto", "ftp"),
        (1, "X-Forwarded-Proto", "https://x"),
        (1, "X-Forwarded-Host", "a b"),
        (1, "X-Forwarded-Host", '"evil.example, pictures.example"'),
        (1, "X-Forwarded-Host", "pictures.example/x"),
        (1, "X-Forwarded-Host", "pictures.example:x"),
        (1, "X-Forwarded-Host", "pictures.example:65536"),
        (1, "X-Forwarded-Host", "user@pictures.example"),
    ],
)
def test_what_a_proxy_cannot_have_written_is_refused(
    make_app: MakeApp, dog: bytes, proxies: int, header: str, value: str
) -> None:
    client = make_app(trusted_proxies=proxies).test_client()
    response = client.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, headers={header: value})
    assert (response.status_code, response.get_json()) == (400, FAILED)
    assert response.headers["X-Error"].startswith(f"bad-forwarding: The proxy's {header} ")
    assert make_app().test_client().get("/", headers={header: value}).status_code == 200  # no proxy is trusted here


def test_the_log_has_the_address_of_a_client_that_is_refused_behind_a_proxy(
    make_app: MakeApp, log: io.StringIO
) -> None:
    client = make_app(trusted_proxies=1).test_client()
    client.post("/feedback", headers={**OTHERS_PAGE, "X-Forwarded-For": '"x, [::ffff:203.0.113.1]:40000'})
    assert "client=203.0.113.1" in log.getvalue().split()


@pytest.mark.parametrize(("proxies", "status"), [(0, 403), (1, 200)])
def test_behind_a_proxy_the_page_has_the_proxys_name(make_app: MakeApp, proxies: int, status: int) -> None:
    client = make_app(trusted_proxies=proxies).test_client()
    headers = {"Origin": "https://pictures.example", "Host": "10.0.0.1:5000", "X-Forwarded-Host": "pictures.example"}
    assert client.post("/feedback", data={"report": "wrong"}, headers=headers).status_code == status


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys")


@pytest.fixture
def closed(make_app: MakeApp, tmp_path: Path) -> FlaskClient:
    """Return a client of an API that requires keys."""
    return make_app(api_keys_file=tmp_path / "keys").test_client()


@pytest.mark.usefixtures("worker")
def test_a_program_sends_its_key_as_a_token_and_a_browser_as_the_password(
    closed: FlaskClient, keys: KeyFile, dog: bytes
) -> None:
    key = keys.add("alice")
    for auth in (Authorization("bearer", token=key), ("", key), ("anybody", key)):
        response = closed.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, auth=auth)
        assert response.get_json()["success"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer mlapi_é",
        "Bearer a=b",
        "Basic",
        "Basic !!!",
        "Basic " + b64encode(b"alice").decode(),
        "Basic " + b64encode(b"alice:").decode(),
        "Basic " + b64encode(b"alice:x").decode(),
        "Basic " + b64encode(b"\xff:\xff").decode(),
        'Digest username="alice"',
        "Digest x",
        "Token x",
        "x" * 5000,
    ],
)
def test_without_a_right_key_nothing_is_answered(
    closed: FlaskClient, keys: KeyFile, dog: bytes, authorization: str | None
) -> None:
    keys.add("alice")
    headers = {} if authorization is None else {"Authorization": authorization}
    response = closed.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, headers=headers)
    assert (response.status_code, response.get_json()) == (401, FAILED)
    assert response.headers["X-Error"].startswith("key-required: ")
    assert [challenge.split()[0] for challenge in response.headers.getlist("WWW-Authenticate")] == ["Bearer", "Basic"]


def test_whoever_sends_a_wrong_key_is_told_so_and_whoever_sends_none_that_one_is_needed(closed: FlaskClient) -> None:
    needed = closed.get("/v1/models").get_json()
    wrong = closed.get("/v1/models", headers={"Authorization": "Bearer mlapi_x"}).get_json()
    assert needed["detail"].startswith("This service needs an API key.")
    assert wrong["detail"].startswith("The service does not know the API key that was sent.")
    assert needed["code"] == wrong["code"] == "key-required"


def test_a_key_of_another_scheme_or_in_the_address_does_not_count(closed: FlaskClient, keys: KeyFile) -> None:
    key = keys.add("alice")
    assert closed.get("/", auth=Authorization("digest", {"password": key})).status_code == 401
    assert closed.get(f"/?key={key}").status_code == 401
    assert closed.get("/", headers={"Cookie": f"key={key}"}).status_code == 401


def test_everything_needs_a_key_but_for_health_checks_and_the_pages_own_files(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app(api_keys_file=tmp_path / "keys")
    app.add_url_rule("/metrics", view_func=lambda: "added later")
    client = app.test_client()
    paths = [
        "/",
        "/predict",
        "/feedback",
        "/display/x",
        "/metrics",
        "/static/page.css",
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/pets",
        "/nowhere",
    ]
    refused = {path for path in paths if client.get(path, buffered=True).status_code == 401}
    assert refused == set(paths) - {"/static/page.css", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}


def test_while_the_keys_cannot_be_read_nobody_is_let_in(closed: FlaskClient, keys: KeyFile, tmp_path: Path) -> None:
    key = keys.add("alice")
    (tmp_path / "keys").write_text("damaged")
    response = closed.post("/predict", auth=("", key))
    assert (response.status_code, response.get_json()) == (503, FAILED)
    assert response.headers["X-Error"] == f"keys-unavailable: {KeysUnavailable.message}"  # not where the file is


def test_a_right_key_does_not_help_another_sites_page(closed: FlaskClient, keys: KeyFile) -> None:
    assert closed.post("/feedback", auth=("", keys.add("alice")), headers=OTHERS_PAGE).status_code == 403


def test_a_key_counts_by_its_own_rate_or_by_its_address(
    make_app: MakeApp, keys: KeyFile, tmp_path: Path, redis_url: str, address: str
) -> None:
    client = make_app(api_keys_file=tmp_path / "keys", rate_limit="3/day", redis_url=redis_url).test_client()
    name = uuid4().hex
    own_rate, without = ("", keys.add(name, "2/day")), ("", keys.add("bob"))

    def statuses(auth: tuple[str, str] | None) -> list[int]:
        return [client.get("/", auth=auth, environ_base={"REMOTE_ADDR": address}).status_code for _ in range(3)]

    assert statuses(own_rate) == [200, 200, 429]
    assert statuses(without) == [200, 200, 200]
    assert statuses(without) == [429, 429, 429]
    assert statuses(None) == [429, 429, 429]


def test_wrong_keys_are_counted_as_well(make_app: MakeApp, tmp_path: Path, redis_url: str, address: str) -> None:
    client = make_app(api_keys_file=tmp_path / "keys", rate_limit="2/day", redis_url=redis_url).test_client()
    tries = [client.get("/", auth=("", "wrong"), environ_base={"REMOTE_ADDR": address}) for _ in range(3)]
    assert [response.status_code for response in tries] == [401, 401, 429]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Log as the API does, but into this."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr(logging.root, "handlers", [])
    logs.configure("INFO", "text")
    return written


@pytest.mark.usefixtures("worker")
def test_the_log_has_the_name_of_a_key_and_never_the_key(
    closed: FlaskClient, keys: KeyFile, dog: bytes, log: io.StringIO
) -> None:
    key = keys.add("alice")
    closed.post("/predict", data={"file": (io.BytesIO(dog), "dog.jpeg")}, auth=("", key))
    closed.post("/feedback", auth=("", key[:-1]))
    classified, refused = log.getvalue().splitlines()
    assert "POST /predict" in classified
    assert "key=alice" in classified
    assert "POST /feedback" in refused
    assert {"status=401", "client=127.0.0.1"} <= set(refused.split())
    assert "alice" not in refused
    assert key[:-1] not in log.getvalue()
