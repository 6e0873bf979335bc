"""The service conforms to its own OpenAPI document, whatever requests schemathesis generates."""

import re
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from testing.images import DOG

for media_type in ("image/jpeg", "image/png", "image/gif"):
    schemathesis.openapi.media_type(media_type, st.just(DOG) | st.binary(max_size=200))

# For each operation, this many valid requests and as many invalid ones.
EXAMPLES = 100
# A request that breaks several rules at once may be refused for being too large.
REFUSALS = schemathesis.Config.from_dict(
    {
        "checks": {
            "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 429]}
        }
    }
)
# No schema says which bytes are an image, so a body that fits it may be refused all the same.
UNKNOWABLE: list[Any] = [positive_data_acceptance]

OPERATIONS = {
    ("POST", "/v1/predictions"),
    ("GET", "/v1/predictions/{prediction_id}"),
    ("POST", "/v1/predictions/{prediction_id}/feedback"),
    ("GET", "/v1/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/v1/models/{name}/versions"),
    ("GET", "/v1/models/{name}/versions/{version}"),
    ("GET", "/v1/problems/{code}"),
}


@pytest.fixture(scope="module")
def described(base_url: str) -> BaseSchema:
    """Return the service's OpenAPI document."""
    return schemathesis.openapi.from_url(f"{base_url}/v1/openapi.json", config=REFUSALS)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_no_request_is_answered_5xx_or_otherwise_than_documented(
    described: BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    session = requests.Session()

    @hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(described[path][method].as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(session=session, excluded_checks=UNKNOWABLE, timeout=60)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:  # without parameters, no invalid request exists
        assert mode.is_negative


def test_the_document_is_of_openapi_3_1_and_describes_every_endpoint(base_url: str) -> None:
    document = requests.get(f"{base_url}/v1/openapi.json", timeout=10).json()
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    assert {(method.upper(), path) for path, item in document["paths"].items() for method in item} == OPERATIONS
