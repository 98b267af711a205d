"""Pure functions from the domain to the contract's messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from killrvideo.user.v1 import user_pb2, user_service_pb2

from killrvideo_grpc.domain.user import Role, User
from killrvideo_grpc.service import Login


def to_user(user: User) -> user_pb2.User:
    """Describes an account to its owner."""
    return user_pb2.User(
        user_id=str(user.user_id),
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
        roles=[role.value for role in Role if role in user.roles],
        account_status=user.status.value,
        created_date=to_timestamp(user.created_date),
        last_login_date=to_timestamp(user.last_login_date) if user.last_login_date else None,
    )


def to_register_response(user: User) -> user_service_pb2.RegisterResponse:
    """Tells what was registered."""
    return user_service_pb2.RegisterResponse(
        user_id=str(user.user_id), first_name=user.first_name, last_name=user.last_name, email=user.email
    )


def to_login_response(login: Login) -> user_service_pb2.LoginResponse:
    """Hands over a token."""
    return user_service_pb2.LoginResponse(
        token=login.token, user=to_user(login.user), expires_at=to_timestamp(login.expires_at)
    )


def to_timestamp(moment: datetime) -> Timestamp:
    """Converts an aware datetime."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
