"""The service does what its description says, whatever it is sent.

`BIRDSEARCH_TEST_EXAMPLES` says how many requests are made up for each operation and mode (12 unless it is set).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, seed, settings

from birdsearch.search.query.hits import Hit
from birdsearch.search.service.app import create_app
from birdsearch.search.service.openapi import describe
from birdsearch.search.service.options import ServeOptions

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis, which `make dev` installs")

_SEED = 20260
_EXAMPLES = int(os.environ.get("BIRDSEARCH_TEST_EXAMPLES", "12"))
_TIMEOUT_S = 60
_METHODS = ("get", "post", "put", "patch", "delete")

# The description does not depend on a catalog, so the operations are known before there is one.
_DESCRIPTION: dict[str, Any] = describe(create_app(ServeOptions(catalog=Path("none"))))
_OPERATIONS = [
    (method, path)
    for path, operations in _DESCRIPTION["paths"].items()
    for method in operations
    if method in _METHODS
]
# What takes nothing cannot be sent anything wrong.
_ASKED = [
    (method, path, mode)
    for method, path in _OPERATIONS
    for mode in ("positive", "negative")
    if mode == "positive" or {"parameters", "requestBody"} & _DESCRIPTION["paths"][path][method].keys()
]


@pytest.fixture(scope="module")
def described(
    catalog_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, Any]]:
    """A server whose catalog may be written to, and its description as schemathesis reads it."""
    from tests.search.service.conftest import running

    catalog = Path(shutil.copytree(catalog_path, tmp_path_factory.mktemp("described") / "catalog"))
    with running(ServeOptions(catalog=catalog, port=0, originals=True)) as server:
        yield server, schemathesis.openapi.from_url(f"{server.url}/api/openapi.json")


def _checks() -> list[Any]:
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as conformance

    return [
        checks.not_a_server_error,
        conformance.status_code_conformance,
        conformance.content_type_conformance,
        conformance.response_headers_conformance,
        conformance.response_schema_conformance,
        _negative_data_rejection,
    ]


def _negative_data_rejection(context: Any, response: Any, case: Any) -> Any:
    """As the check of that name, which does not count the refusal of what is too large as one."""
    from schemathesis.specs.openapi import checks

    return (
        None
        if response.status_code in (413, 431)
        else checks.negative_data_rejection(context, response, case)
    )


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    _ASKED,
    ids=[f"{method.upper()} {path} {mode}" for method, path, mode in _ASKED],
)
def test_an_operation_answers_as_it_is_described(
    described: tuple[RunningServer, Any], method: str, path: str, mode: str
) -> None:
    server, schema = described
    print(f"seed {_SEED}")
    made_up = schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    with requests.Session() as session:

        @seed(_SEED)
        @settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=made_up)
        def ask(case: Any) -> None:
            response = case.call(base_url=server.url, session=session, timeout=_TIMEOUT_S)
            case.validate_response(response, checks=_checks())

        ask()


def _examples(described: Mapping[str, Any]) -> Iterator[Any]:
    """What is given as examples at one place: named ones of OpenAPI, a list of JSON Schema, or a single one."""
    several = described.get("examples", ())
    yield from (each["value"] for each in several.values()) if isinstance(several, Mapping) else several
    if "example" in described:
        yield described["example"]


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas that a schema refers to or is one of."""
    if "$ref" in schema:
        schema = _DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    yield schema
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _alternatives(each)


def _json_examples() -> Iterator[tuple[str, str, Any]]:
    """Method, path and body of every example of a JSON body."""
    for method, path in _OPERATIONS:
        content = _DESCRIPTION["paths"][path][method].get("requestBody", {}).get("content", {})
        media = content.get("application/json")
        if media is not None:
            for described in (media, *_alternatives(media["schema"])):
                for example in _examples(described):
                    yield method, path, example


_JSON_EXAMPLES = list(_json_examples())


@pytest.mark.parametrize(
    ("method", "path", "example"),
    _JSON_EXAMPLES,
    ids=[f"{method.upper()} {path} {json.dumps(example)[:40]}" for method, path, example in _JSON_EXAMPLES],
)
def test_an_example_of_a_request_is_understood(
    described: tuple[RunningServer, Any], method: str, path: str, example: Any
) -> None:
    server, _ = described
    response = requests.request(method, server.url + _filled(path), json=example, timeout=_TIMEOUT_S)
    # What an example names need not be there; that it was looked for is enough.
    assert response.ok or response.status_code in (401, 403, 404, 409), response.text


def test_every_body_of_a_request_has_an_example() -> None:
    with_body = {
        (method, path)
        for method, path in _OPERATIONS
        if "application/json" in _DESCRIPTION["paths"][path][method].get("requestBody", {}).get("content", {})
    }
    assert with_body == {(method, path) for method, path, _ in _JSON_EXAMPLES}


def test_every_operation_and_parameter_says_what_it_is() -> None:
    for method, path in _OPERATIONS:
        operation = _DESCRIPTION["paths"][path][method]
        assert operation.get("description") or operation.get("summary"), (method, path)
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["in"] == "header", (path, parameter["name"])


def test_a_record_is_described_by_its_docstring() -> None:
    schemas = _DESCRIPTION["components"]["schemas"]
    hit = schemas["Hit"]
    assert hit["properties"].keys() == {each.name for each in dataclasses.fields(Hit)} - {"file"}
    assert all("description" in each for each in hit["properties"].values())
    assert hit["properties"]["lat"]["description"] == "Degrees north, or None."
    assert set(hit["required"]) == hit["properties"].keys() - {"flag", "thumb"}
    assert hit["additionalProperties"] is False
    assert "lambda" in schemas["LabelEvidence"]["required"]
    assert schemas["SearchAnswer"]["properties"]["hits"]["description"]


def _filled(path: str) -> str:
    """A path with 1 for every id."""
    return "/".join("1" if part.startswith("{") else part for part in path.split("/"))
