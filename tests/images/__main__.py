"""Build both container images without a container engine, and use them as docs/ say: make test-images.

Needs root on Debian with `apt-get install buildah debootstrap`, and the ports 50051 and 8080. The images that the
Dockerfiles build on are replaced by Debian, which has the same Python, with the locked Envoy.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import httpx

from tests.support.eventually import eventually
from tests.support.process import children

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".images"
SUITE = "trixie"  # with Python 3.13
SERVICE, EDGE = "killrvideo-user", "killrvideo-user-edge"
DOCKER_SECONDS = 10  # that Docker waits before it kills
PERSON = {"email": "ann@example.org", "password": "long enough", "firstName": "Ann", "lastName": "Lee"}


def main() -> int:
    missing = [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]
    if missing or os.geteuid():
        print(f"Needs root and {' and '.join(missing) or 'nothing else'}: apt-get install buildah debootstrap")
        return 1
    CACHE.mkdir(exist_ok=True)
    make_bases()
    for image, file in ((SERVICE, "Dockerfile"), (EDGE, "Dockerfile.edge")):
        build(image, f"deploy/{file}")
    with tempfile.TemporaryDirectory() as folder:
        for user in ("10001:0", "123456:0"):
            data = Path(folder, user.partition(":")[0])
            data.mkdir(mode=0o770)
            os.chown(data, 10001, 0)
            try_out(user, data)
    print("Both images work.")
    return 0


def buildah(*arguments: str) -> list[str]:
    return ["buildah", "--root", str(CACHE / "root"), "--runroot", str(CACHE / "run"), *arguments]


def environment() -> dict[str, str]:
    registries = CACHE / "registries.conf"
    registries.write_text('unqualified-search-registries = ["localhost"]\n')
    isolation = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    return os.environ | isolation | {"CONTAINERS_REGISTRIES_CONF": str(registries)}


def run(*arguments: str) -> str:
    """Run buildah, and return what it prints."""
    done = subprocess.run(
        buildah(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def make_bases() -> None:
    """Make the images that the Dockerfiles name in FROM, unless an earlier run has."""
    python, envoy = (
        re.findall(r"^FROM (\S+)", (ROOT / "deploy" / file).read_text(), re.MULTILINE)[0]
        for file in ("Dockerfile", "Dockerfile.edge")
    )
    made = run("images", "--format", "{{.Name}}:{{.Tag}}")
    if f"localhost/{envoy}" in made:
        return
    debian = CACHE / "debian"
    shutil.rmtree(debian, ignore_errors=True)
    mirror = subprocess.check_output(["apt-get", "indextargets", "--format", "$(SITE)"], text=True).split()[:1]
    packages = "--include=ca-certificates,python3,python3-venv"
    subprocess.run(["debootstrap", "--variant=minbase", packages, SUITE, str(debian), *mirror], check=True)
    (debian / "usr/bin/python").symlink_to("python3")
    copy_pip_settings(debian)
    container = run("from", "scratch")
    run("copy", "--quiet", container, str(debian), "/")
    run("commit", "--quiet", container, f"localhost/{python}")
    run("copy", "--quiet", container, str(files("envoy") / "_bin" / "envoy"), "/usr/local/bin/envoy")
    run("run", container, "--", "useradd", "--system", "envoy")
    run("commit", "--quiet", container, f"localhost/{envoy}")
    run("rm", container)


def copy_pip_settings(debian: Path) -> None:
    """Give a root folder this machine's settings of pip, and the certificates that it trusts."""
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    found = dict(re.findall(r"^[^.]+\.(\S+)='(.*)'$", listed, re.MULTILINE))
    (debian / "etc/pip.conf").write_text("\n".join(["[global]", *(f"{name} = {found[name]}" for name in found)]))
    for path in {found.get("cert"), "/etc/ssl/certs/ca-certificates.crt"} - {None}:
        target = debian / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(path), target)


def build(image: str, dockerfile: str) -> None:
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    mounted = ["--volume", f"{wheels}:{wheels}:ro"] if Path(wheels or "?").is_dir() else []
    options = ["--pull-never", "--layers", "--format", "docker", "--quiet", *mounted]
    run("build", *options, "--file", dockerfile, "--tag", image, ".")


@contextmanager
def started(image: str, *options: str, command: tuple[str, ...]) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run a container on the host's network, and kill it at the end. Yield its id and buildah's process."""
    container = run("from", "--pull-never", "--add-host", "service:127.0.0.1", image)
    process = subprocess.Popen(buildah("run", *options, container, "--", *command), env=environment())
    try:
        yield container, process
    finally:
        if process.poll() is None:
            for pid in (*descendants(process.pid), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
        run("rm", container)


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, the innermost last."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a container's process as Docker does."""
    begun = time.monotonic()
    os.kill(descendants(process.pid)[-1], signal.SIGTERM)
    process.wait(DOCKER_SECONDS)
    print(f"stopped after {time.monotonic() - begun:.1f} s")


def try_out(user: str, data: Path) -> None:
    """Start both containers, register, log in, appoint a moderator as docs/ say, and stop both in time."""
    options = ("--user", user, "--volume", f"{data}:/data")
    edge_command = ("envoy", "-c", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "--log-level", "warn")
    with (
        started(SERVICE, *options, command=("killrvideo-grpc", "serve")) as (service, serving),
        started(EDGE, command=edge_command) as (edge, proxying),
        httpx.Client(base_url="http://127.0.0.1:8080", trust_env=False) as client,
    ):
        eventually(lambda: serving.poll() is not None or status(client, "/healthz") == 200)
        run("run", *options, service, "--", "killrvideo-grpc", "health")
        run("run", edge, "--", "edge-is-healthy")
        client.post("/api/v1/users/register", json=PERSON).raise_for_status()
        token = client.post("/api/v1/users/login", json=PERSON).raise_for_status().json()["token"]
        run("run", *options, service, "--", "killrvideo-grpc", "roles", "assign", PERSON["email"], "moderator")
        bearer = {"authorization": f"Bearer {token}"}
        found = client.get("/api/v1/moderation/users", headers=bearer).raise_for_status().json()
        assert [each["email"] for each in found] == [PERSON["email"]]
        stop(proxying)
        stop(serving)


def status(client: httpx.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


if __name__ == "__main__":
    sys.exit(main())
