"""Imports and compiles what a service needs, once for all that are forked from the process that imports this."""

import protovalidate
import pytest  # noqa: F401 # forks import the main module again, which may be pytest's command
from google.protobuf import message_factory

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
