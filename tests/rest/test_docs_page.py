"""The page /docs, in a real browser."""

from concurrent.futures import ThreadPoolExecutor
from shutil import which

import httpx
import pytest

from tests.rest.conftest import Edge, problem, registered
from tests.support.accounts import PASSWORD
from tests.support.eventually import eventually

BROWSER, DRIVER = which("chromium") or which("google-chrome"), which("chromedriver")
FILES = {
    "/docs": "text/html",
    "/docs/docs_page.js": "text/javascript",
    "/docs/swagger-ui-bundle.js": "text/javascript",
    "/docs/swagger-ui.css": "text/css",
}


@pytest.mark.parametrize("path", FILES)
def test_everything_comes_from_the_edge(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{FILES[path]}; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {value for name, value in policy.items() if name != "img-src"} == {"'self'", "'none'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.head(path).headers["content-length"] == str(len(answer.content))
    assert client.post(path).headers["allow"] == "GET, HEAD"
    problem(client.get(path, params={"url": "https://a.example/openapi.json"}), 400)


def test_make_web_says_where_it_is(edge: Edge) -> None:
    assert f"{edge.url}/docs\n" in edge.banner


def test_nothing_else_is_there(client: httpx.Client) -> None:
    for path in ("/docs/", "/docs/swagger-ui-bundle.js.map", "/docs/oauth2-redirect.html", "/docsx", "/api/v1/docs"):
        problem(client.get(path), 404)


@pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium: apt-get install chromium chromium-driver")
def test_logging_in_and_calling(edge: Edge, client: httpx.Client) -> None:
    from tests.rest.swagger_page import Page, opened_browser

    account = registered(client)
    with opened_browser(BROWSER or "", DRIVER or "") as browser:
        page = Page(browser, f"{edge.url}/docs")
        status, refusal = page.call("GetMe")
        assert (status, refusal["code"]) == ("401", "NOT_AUTHENTICATED")
        status, login = page.call("Login", {"email": account.email, "password": PASSWORD})
        assert (status, login["user"]["userId"]) == ("200", account.user_id)
        assert page.call("GetMe") == ("200", login["user"])
        kept = "return [localStorage.length, sessionStorage.length, document.cookie]"
        assert browser.execute_script(kept) == [0, 0, ""]
        # What the content policy blocks would be here too.
        (line,) = browser.get_log("browser")  # type: ignore[no-untyped-call]
        assert "status of 401" in line["message"]


def test_files_are_limited_per_second(edge: Edge) -> None:
    """Envoy holds a copy of a file until its caller has read it."""
    with httpx.Client(verify=False) as client, ThreadPoolExecutor(8) as callers:

        def is_limited() -> bool:
            answers = callers.map(lambda _: client.head(f"{edge.url}/docs/swagger-ui-bundle.js"), range(40))
            return 429 in {answer.status_code for answer in answers}

        eventually(is_limited)
        assert client.get(f"{edge.url}/docs").status_code == 200
