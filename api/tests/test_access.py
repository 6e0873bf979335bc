"""Who may call."""

import io
from ipaddress import IPv4Address
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from api.tests.conftest import MakeApp

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
        {"Origin": "https://localhost"},  # behind a proxy that ends TLS
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


@pytest.fixture
def address() -> str:
    """Return an address that no other test counts requests of."""
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
        (0, "203.0.113.1", "192.0.2.1"),  # anybody can claim anything
        (1, "203.0.113.1", "203.0.113.1"),
        (1, "203.0.113.1, 198.51.100.1", "198.51.100.1"),  # the last one is the proxy's word
        (2, "203.0.113.1, 198.51.100.1", "203.0.113.1"),
        (2, "203.0.113.1", "192.0.2.1"),  # it did not come through both
        (1, "", "192.0.2.1"),
        (1, "unknown", "unknown"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.1", "203.0.113.1"),
    ],
)
def test_an_address_is_believed_from_so_many_proxies(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, proxies: int, forwarded_for: str, believed: str
) -> None:
    counted: list[str] = []
    monkeypatch.setattr("api.rates.RateLimiter.count", lambda _, caller, __: counted.append(caller))
    client = make_app(rate_limit="1/day", trusted_proxies=proxies).test_client()
    client.get("/", environ_base={"REMOTE_ADDR": "192.0.2.1"}, headers={"X-Forwarded-For": forwarded_for})
    assert counted == [believed]


@pytest.mark.parametrize(("proxies", "status"), [(0, 403), (1, 200)])
def test_behind_a_proxy_the_page_has_the_proxys_name(make_app: MakeApp, proxies: int, status: int) -> None:
    client = make_app(trusted_proxies=proxies).test_client()
    headers = {"Origin": "https://pictures.example", "Host": "10.0.0.1:5000", "X-Forwarded-Host": "pictures.example"}
    assert client.post("/feedback", headers=headers).status_code == status
