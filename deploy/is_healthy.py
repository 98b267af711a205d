"""Exit with status 0 if the service in this container is SERVING, otherwise with 1. On Kubernetes, use a gRPC probe."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

with grpc.insecure_channel("127.0.0.1:50051") as channel:
    request = health_pb2.HealthCheckRequest(service="killrvideo.user.v1.UserService")
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types lack the methods
    answer = stub.Check(request, timeout=2)
raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)
