"""Exits with 0 if the service in this container says that it is SERVING, and with 1 otherwise.

The image has no grpcurl, and Docker can't check the health of gRPC by itself. Kubernetes can; use its gRPC probe there.
"""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

with grpc.insecure_channel("127.0.0.1:50051") as channel:
    request = health_pb2.HealthCheckRequest(service="killrvideo.user.v1.UserService")
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the methods
    answer = stub.Check(request, timeout=2)
raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)
