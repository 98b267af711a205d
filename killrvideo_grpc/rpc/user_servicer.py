"""The RPCs of UserService: each unpacks its request, calls the service once, and packs the answer."""

import grpc
from killrvideo.user.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.rpc import convert
from killrvideo_grpc.rpc.interceptors.access import caller
from killrvideo_grpc.service import UserService


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Implements the contract. What goes wrong is raised as a domain error; the errors interceptor answers it."""

    def __init__(self, service: UserService) -> None:
        self._service = service

    def Register(
        self, request: user_service_pb2.RegisterRequest, context: grpc.ServicerContext
    ) -> user_service_pb2.RegisterResponse:
        user = self._service.register(request.email, request.password, request.first_name, request.last_name)
        bind_contextvars(user_id=str(user.user_id))
        return convert.to_register_response(user)

    def Login(
        self, request: user_service_pb2.LoginRequest, context: grpc.ServicerContext
    ) -> user_service_pb2.LoginResponse:
        login = self._service.login(request.email, request.password)
        bind_contextvars(user_id=str(login.user.user_id))
        return convert.to_login_response(login)

    def GetMe(self, request: user_service_pb2.GetMeRequest, context: grpc.ServicerContext) -> user_pb2.User:
        return convert.to_user(caller.get())

    def UpdateMe(self, request: user_service_pb2.UpdateMeRequest, context: grpc.ServicerContext) -> user_pb2.User:
        first_name = request.first_name if request.HasField("first_name") else None
        last_name = request.last_name if request.HasField("last_name") else None
        return convert.to_user(self._service.rename(caller.get(), first_name, last_name))
