"""The package killrvideo-user-stubs, in an environment that has nothing but its dependencies."""

import re
import subprocess
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path, PurePosixPath

import pytest

from tests.rpc.conftest import Account
from tests.support.process import BIN

ROOT = Path(__file__).parents[2]
INSTALL = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile"]
CALL = """
import importlib.util, sys

import grpc
from killrvideo.user.v1.user_service_pb2 import GetMeRequest
from killrvideo.user.v1.user_service_pb2_grpc import UserServiceStub

assert importlib.util.find_spec("killrvideo_grpc") is None
target, token = sys.argv[1:]
with grpc.insecure_channel(target) as channel:
    metadata = (("authorization", f"Bearer {token}"),)
    print(UserServiceStub(channel).GetMe(GetMeRequest(), metadata=metadata, timeout=20).user_id)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Distribution]:
    """Build the wheel and install it. Return the environment's Python, and the package."""
    wheels, environment = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("environment")
    build = [str(BIN / "hatchling"), "build", "--target", "wheel", "--directory", str(wheels)]
    subprocess.run(build, cwd=ROOT / "protos", check=True, timeout=120)
    (wheel,) = wheels.glob("*.whl")
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    subprocess.run([BIN / "pip", "--python", python, *INSTALL, wheel], check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    (package,) = distributions(name="killrvideo-user-stubs", path=[str(packages)])
    for dependency in closure(package):
        link(dependency, packages)
    return python, package


def closure(package: Distribution) -> set[str]:
    """Return the names of what a package needs, as installed here."""
    required = [line for line in package.requires or () if "extra ==" not in line]
    names = {re.split(r"[^\w.-]", line)[0] for line in required}
    return names.union(*(closure(distribution(name)) for name in names))


def link(name: str, packages: Path) -> None:
    """Make an installed package available in another environment."""
    for file in distribution(name).files or ():
        if ".." not in file.parts:
            place = packages / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(Path(str(file.locate())))


def test_a_call(installed: tuple[Path, Distribution], account: Account, grpc_addr: str) -> None:
    python, _ = installed
    command = [str(python), "-I", "-W", "error", "-c", CALL, grpc_addr, account.login.token]
    assert subprocess.check_output(command, text=True, timeout=60).strip() == account.user_id


def test_it_has_the_generated_modules_with_their_types(installed: tuple[Path, Distribution]) -> None:
    _, package = installed
    files = {str(file) for file in package.files or () if "dist-info" not in str(file)}
    generated = ROOT / "generated"
    expected = [file for folder in ("killrvideo/user", "buf") for file in (generated / folder).rglob("*.*")]
    assert files == {str(file.relative_to(generated)) for file in expected if "__pycache__" not in file.parts}
    modules = [PurePosixPath(file) for file in files if file.endswith(".py")]
    assert len(modules) > 5
    assert all(str(module.with_suffix(".pyi")) in files for module in modules)
    typed = {file.removesuffix("/py.typed") for file in files if file.endswith("/py.typed")}
    assert all(any(module.is_relative_to(package) for package in typed) for module in modules)


def test_its_metadata(installed: tuple[Path, Distribution]) -> None:
    """It has the service's version, and requires what the service requires of the same packages."""
    _, package = installed
    service = distribution("killrvideo-grpc")
    assert package.version == service.version
    assert set(package.requires or ()) <= set(service.requires or ())
    assert package.metadata["Summary"]
    assert "UserServiceStub" in package.metadata.json["description"]
