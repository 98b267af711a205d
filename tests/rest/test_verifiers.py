"""Verifiers that others have written accept our tokens, with the keys from the edge, and refuse forged ones."""

import asyncio
import json
import subprocess
from pathlib import Path
from shutil import which
from typing import Annotated

import httpx
import jwt
import pytest
from fastapi import Depends, FastAPI

from killrvideo_grpc.edge.render import Edge as EdgeSettings
from tests.rest.conftest import ROOT, Account, Edge, envoy, is_ready, registered
from tests.rest.forged_tokens import FORGED, forged, kinds
from tests.rpc.test_docs import run as run_docs
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.process import run
from tests.support.servers import running_server
from tests.support.settings import settings_in

JWKS = "/.well-known/jwks.json"
ISSUER, AUDIENCE = "killrvideo.user.v1", "killrvideo"


def test_the_key_set(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.get(JWKS)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["vary"] == "origin"
    (key,) = answer.json()["keys"]
    assert {name: key[name] for name in ("kty", "crv", "use", "alg")} == {
        "kty": "EC",
        "crv": "P-256",
        "use": "sig",
        "alg": "ES256",
    }
    assert key.keys() == {"kty", "crv", "use", "alg", "x", "y", "kid"}
    printed = run(tmp_path, "keys", "list")
    assert (printed.returncode, json.loads(printed.stdout)) == (0, answer.json())


def test_only_a_key_set_is_cacheable(client: httpx.Client, account: Account) -> None:
    for answer in (
        client.get(f"{JWKS}?x=1"),
        client.post(JWKS),
        client.get(f"{JWKS}/x"),
        client.get("/.well-known/x"),
        client.get("/x/.well-known/jwks.json"),
        client.get("/api/v1/users/me", headers=account.bearer),
        client.get("/"),
    ):
        assert answer.headers["cache-control"] == "no-store", answer.request.url
        assert "vary" not in answer.headers
    assert client.post(JWKS).headers["allow"] == "GET"


def test_no_worker_no_cache(tmp_path: Path) -> None:
    port = free_port()
    with envoy(EdgeSettings(port=port, workers=[("127.0.0.1", free_port())])):
        answer = eventually(lambda: fetched(f"http://127.0.0.1:{port}{JWKS}"))
    assert answer is not None
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")


def fetched(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url)
    except httpx.TransportError:
        return None


def test_hmac_publishes_no_key(tmp_path: Path) -> None:
    port = free_port()
    with (
        running_server(settings_in(tmp_path, algorithm="HS512")) as service,
        envoy(EdgeSettings(port=port, workers=[("127.0.0.1", service.port)])),
        httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}") as client,
    ):
        eventually(lambda: is_ready(client))
        assert client.get(JWKS).json() == {"keys": []}
        assert client.get("/api/v1/users/me", headers=registered(client).bearer).status_code == 200
    assert json.loads(run(tmp_path, "keys", "list", ALGORITHM="HS512").stdout) == {"keys": []}


def pyjwt_accepts(edge: Edge, token: str) -> bool:
    try:
        key = jwt.PyJWKClient(f"{edge.url}{JWKS}").get_signing_key_from_jwt(token)
        jwt.decode(token, key, algorithms=["ES256"], issuer=ISSUER, audience=AUDIENCE)
    except jwt.PyJWTError:
        return False
    return True


def test_pyjwt(edge: Edge, account: Account) -> None:
    assert pyjwt_accepts(edge, account.token)


def test_the_example_of_the_docs(edge: Edge, account: Account) -> None:
    example = run_docs("docs/calling.md")
    assert example["KEYS"].endswith(JWKS)
    keys = jwt.PyJWKClient(f"{edge.url}{JWKS}")
    assert example["claims_of"](account.token, keys)["sub"] == account.user_id
    with pytest.raises(jwt.PyJWKClientConnectionError):
        example["claims_of"](account.token, jwt.PyJWKClient(f"http://127.0.0.1:{free_port()}"))
    assert all(example["claims_of"](forged(kind, account.token), keys) is None for kind in FORGED)


def test_the_dependency_of_the_docs(edge: Edge, account: Account) -> None:
    example, app = run_docs("docs/calling.md"), FastAPI()
    app.state.keys = jwt.PyJWKClient(f"{edge.url}{JWKS}")

    @app.get("/")
    def caller(user_id: Annotated[str, Depends(example["offline"])]) -> str:
        return user_id

    async def answers(*tokens: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sibling") as client:
            return [await client.get("/", headers={"authorization": f"Bearer {token}"}) for token in tokens]

    good, *bad = asyncio.run(answers(account.token, *(forged(kind, account.token) for kind in FORGED)))
    assert (good.status_code, good.json()) == (200, account.user_id)
    assert {answer.status_code for answer in bad} == {401}


@kinds
def test_pyjwt_refuses(edge: Edge, account: Account, kind: str) -> None:
    assert not pyjwt_accepts(edge, forged(kind, account.token))


def example_in(language: str) -> str:
    """Return the example of docs/calling.md in this language."""
    return (ROOT / "docs/calling.md").read_text().partition(f"```{language}\n")[2].partition("```")[0]


def node_accepts(edge: Edge, token: str) -> bool:
    script = f"{example_in('js')}\nverify(process.argv[1], process.argv[2]).then(claims => console.log(claims.sub));"
    done = subprocess.run(
        ["node", "--input-type=commonjs", "-e", script, f"{edge.url}{JWKS}", token],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 or "invalid token" in done.stderr, done.stderr
    return done.returncode == 0


needs_node = pytest.mark.skipif(which("node") is None, reason="node is not installed")


@needs_node
def test_node(edge: Edge, account: Account) -> None:
    assert node_accepts(edge, account.token)


@needs_node
@kinds
def test_node_refuses(edge: Edge, account: Account, kind: str) -> None:
    assert not node_accepts(edge, forged(kind, account.token))


NIMBUS = sorted(Path.home().glob(".m2/repository/com/nimbusds/nimbus-jose-jwt/*/nimbus-jose-jwt-*.jar"))
JAVA = """
class Main {
    public static void main(String[] arguments) throws Exception {
        var tokens = new Tokens(arguments[0]);
        for (int each = 1; each < arguments.length; each++) {
            try {
                System.out.println(tokens.claims(arguments[each]).getSubject());
            } catch (BadJOSEException | java.text.ParseException error) {
                System.out.println("refused");
            }
        }
    }
}
"""


@pytest.mark.skipif(
    which("java") is None or not NIMBUS,
    reason="needs Java and: mvn dependency:get -Dartifact=com.nimbusds:nimbus-jose-jwt:10.5",
)
def test_java(edge: Edge, account: Account, tmp_path: Path) -> None:
    imports, declaration, rest = example_in("java").partition("class Tokens")
    (tmp_path / "Main.java").write_text(imports + JAVA + declaration + rest)
    tokens = [account.token, *(forged(kind, account.token) for kind in FORGED)]
    quick_start = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(NIMBUS[-1]))
    command = ["java", *quick_start, str(tmp_path / "Main.java"), f"{edge.url}{JWKS}", *tokens]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [account.user_id, *["refused"] * len(FORGED)]
