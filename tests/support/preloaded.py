"""Imports, loads and compiles what a service needs, once for all that are forked from the process that imports this."""

import gc

import anyio._backends._asyncio  # noqa: F401 # imported by the first request to a Data API
import httpcore  # noqa: F401 # so is this
import protovalidate
import pytest  # noqa: F401 # forks import the main module again, which may be pytest's command
from google.protobuf import message_factory
from zxcvbn_rs_py import zxcvbn

import killrvideo_grpc.__main__
import killrvideo_grpc.observability.metrics
import killrvideo_grpc.server.bootstrap
import killrvideo_grpc.server.dev_server
import killrvideo_grpc.server.lifecycle
import killrvideo_grpc.stores.astra.schema
import killrvideo_grpc.stores.astra.store  # noqa: F401
from killrvideo_grpc.server.grpc_server import CONTRACT

for method in CONTRACT.methods:
    protovalidate.collect_violations(message_factory.GetMessageClass(method.input_type)())
zxcvbn("a")  # loads its dictionaries
gc.freeze()  # collections in forks skip all of this
