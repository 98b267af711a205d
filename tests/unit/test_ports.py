"""The workers' ports."""

import gc
import warnings
from pathlib import Path

import pytest

from killrvideo_grpc.domain.errors import SetupError
from killrvideo_grpc.server.ports import worker_ports
from tests.support.settings import settings_in


def test_workers_get_free_ports_if_none_is_set(tmp_path: Path) -> None:
    ports = worker_ports(settings_in(tmp_path, workers=3))
    assert len(set(ports)) == 3
    assert 0 not in ports


def test_an_address_of_another_machine_leaves_no_socket_open(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, grpc_host="203.0.113.1", allow_insecure=True, workers=2)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(SetupError, match=r"203\.0\.113\.1:0"):
            worker_ports(settings)
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
