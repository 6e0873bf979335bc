"""Generates the OpenAPI document from the endpoints and their models."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from spectree import Response, SecurityScheme, SpecTree
from spectree.models import SecureType, SecuritySchemeData

from api.errors.problems import MEDIA_TYPE
from api.v1.documents import Problem

F = TypeVar("F", bound=Callable[..., Any])

# Error statuses of any request.
_ALWAYS = (400, 401, 403, 408, 413, 414, 429, 431, 500, 503)
_RETRY_AFTER = {"description": "Seconds after which to ask again", "schema": {"type": "integer", "minimum": 1}}
_LOCATION = {"description": "Where the prediction will be", "schema": {"type": "string"}}
_FORM = "multipart/form-data"
_FILES = ("image/jpeg", "image/png", "image/gif", "application/octet-stream")
_IMAGES: dict[str, Any] = {media_type: {"schema": {}} for media_type in _FILES}
_SECURITY_SCHEMES = [
    SecurityScheme("bearer", SecuritySchemeData(SecureType.HTTP, "An API key", scheme="bearer")),
    SecurityScheme("basic", SecuritySchemeData(SecureType.HTTP, "An API key, as the password", scheme="basic")),
]

_spec = SpecTree(
    "flask",
    mode="strict",
    title="Flask ML API",
    version="1",
    description="Classifies images. Where the service has API keys, every request needs one.",
    annotations=False,
    validation_error_status=400,
    validation_error_model=Problem,
    naming_strategy=lambda model: str(model.__name__),
    nested_naming_strategy=lambda _parent, child: child,
    security_schemes=_SECURITY_SCHEMES,
    security=[{}, {"bearer": []}, {"basic": []}],
)


class _Answers(Response):
    """The responses of an endpoint: documents, and problems."""

    def generate_spec(self, naming_strategy: Callable[..., str] = str) -> dict[str, Any]:
        """Return the responses' OpenAPI description."""
        answers = super().generate_spec(naming_strategy)
        for status, answer in answers.items():
            if int(status) >= 400:
                answer["content"] = {MEDIA_TYPE: answer["content"]["application/json"]}
        for status in answers.keys() & {"202", "429", "503"}:
            answers[status]["headers"] = {"Retry-After": _RETRY_AFTER}
        if "202" in answers:
            answers["202"]["headers"]["Location"] = _LOCATION
        return answers


def operation(
    answers: dict[int, type[BaseModel] | None],
    problems: tuple[int, ...] = (),
    *,
    query: type[BaseModel] | None = None,
    form: type[BaseModel] | None = None,
    json: type[BaseModel] | None = None,
    headers: type[BaseModel] | None = None,
) -> Callable[[F], F]:
    """Describe an endpoint: its responses, its problems' statuses, and its `query`, `form`, `json` and `headers`.

    This validates nothing: the endpoint does, and reports errors as problems.
    """
    documents: dict[str, Any] = {f"HTTP_{status}": model for status, model in answers.items()}
    documents |= {f"HTTP_{status}": Problem for status in (*_ALWAYS, *problems)}

    def describe(endpoint: F) -> F:
        described: F = _spec.validate(
            query=query,
            form=form,
            json=json,
            headers=headers,
            resp=_Answers(**documents),
            skip_validation=True,
            operation_id=endpoint.__name__,
        )(endpoint)
        return described

    return describe


def document(root: str) -> dict[str, Any]:
    """Return the OpenAPI document of the current application, served under the path `root`."""
    spec: dict[str, Any] = _spec.spec
    body = spec["paths"]["/v1/predictions"]["post"]["requestBody"]
    # The documentation page offers the first media type by default.
    body["content"] = {_FORM: body["content"][_FORM], **body["content"], **_IMAGES}
    for path, operations in spec["paths"].items():
        for described in operations.values():
            described["tags"] = [path.split("/")[2].capitalize()]
            for parameter in described["parameters"]:
                _forbid_null(parameter["schema"])
    return {**spec, "servers": [{"url": root or "/"}]}


def _forbid_null(schema: dict[str, Any]) -> None:
    """Make a parameter optional instead of nullable: URLs and headers have no null."""
    choices = [choice for choice in schema.pop("anyOf", []) if choice["type"] != "null"]
    for choice in choices:
        schema |= choice
        del schema["default"]
