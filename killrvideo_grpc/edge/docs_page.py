"""The page /docs, on which people read and try the REST API: Swagger UI, which Envoy sends from disk."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from killrvideo_grpc.edge.envoy_api import DISABLED, Json, header_option, lua_metadata, rate_limit

HERE = Path(__file__).parent
PATH = "/docs"
# Swagger UI's largest file has 1.6 MB. The page's own files are in the configuration.
MAX_FILE_BYTES = 4 << 20
SWAGGER_UI = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
OWN = {PATH: ("docs_page.html", "text/html"), f"{PATH}/docs_page.js": ("docs_page.js", "text/javascript")}
# Everything comes from this origin, and all calls go there. Swagger UI's icons are in its style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
# Envoy holds a copy of a file until its caller has read it.
REQUESTS_PER_SECOND = 10


def swagger_ui() -> Path | None:
    """Return the folder of Swagger UI's files, or None if drf-spectacular-sidecar is not installed."""
    package = find_spec("drf_spectacular_sidecar")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "static/drf_spectacular_sidecar/swagger-ui-dist"


def page_routes(folder: Path) -> Iterator[Json]:
    """Yield the routes of the page and its files. Envoy reads those in `folder` when it starts."""
    for path, (file, media_type) in OWN.items():
        yield _file(path, media_type, {"inline_string": (HERE / file).read_text()})
    for file, media_type in SWAGGER_UI.items():
        yield _file(f"{PATH}/{file}", media_type, {"filename": str(folder / file)})


def _file(path: str, media_type: str, body: Json) -> Json:
    return {
        "match": {"path": path},
        "metadata": lua_metadata({"allow": "GET, HEAD"}),
        "direct_response": {"status": 200, "body": body},
        "typed_per_filter_config": rate_limit(REQUESTS_PER_SECOND)
        | {
            "envoy.filters.http.grpc_json_transcoder": DISABLED,  # it refuses what is no call
            "policies": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
                "mutations": {"response_mutations": [{"append": header_option("content-security-policy", POLICY)}]},
            },
        },
        "response_headers_to_add": [header_option("content-type", f"{media_type}; charset=utf-8")],
    }
