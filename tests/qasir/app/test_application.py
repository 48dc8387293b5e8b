import warnings

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from qasir.app.application import make_app
from qasir.app.assembly import make_page
from qasir.app.settings import AppSettings
from tests.indexes import make_index
from tests.qasir.app.engines import serving


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    index = make_index(tmp_path_factory.mktemp("described") / "i", [2])
    with (
        serving(index.uri) as engine,
        TestClient(make_page(engine, AppSettings()), base_url="http://localhost") as client,
    ):
        yield client


def test_its_description_tells_errors_as_they_are(client):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    assert list(schemas["Error"]["properties"]) == ["error"]
    for path, operations in described["paths"].items():
        assert "head" not in operations
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            for status in ("400", "401", "403", "404", "413", "421", "429", "503"):
                content = operation["responses"][status]["content"]
                assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, path
    schemes = described["components"]["securitySchemes"]
    assert {one["type"] for one in schemes.values()} == {"http", "apiKey"}
    assert {name for one in described["security"] for name in one} == set(schemes)


@pytest.mark.parametrize("path", ["/", "/static/index.html", "/api/status", "/api/facets", "/openapi.json"])
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == got.headers[name]
    assert client.head("/api/videos/nope").status_code == client.get("/api/videos/nope").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/", "GET, HEAD"),
        ("POST", "/api/status", "GET, HEAD"),
        ("POST", "/media/v000", "GET, HEAD"),
        ("POST", "/static/index.html", "GET, HEAD"),
        ("GET", "/api/session", "POST"),
        ("HEAD", "/api/session", "POST"),
    ],
)
def test_what_a_path_does_not_answer_says_what_it_does(client, method, path, allowed):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_all_methods_of_a_path_are_told():
    routes = APIRouter()

    @routes.get("/a")
    def get() -> None: ...

    @routes.post("/a")
    def post() -> None: ...

    assert TestClient(make_app([routes])).delete("/a").headers["allow"] == "GET, HEAD, POST"
