"""Who may call."""

import io

import pytest
from flask.testing import FlaskClient

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
