"""Conversion of domain objects to the contract's messages."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from killrvideo.user.v1 import audit_event_pb2, json_web_key_pb2, session_pb2, user_pb2, user_service_pb2

from killrvideo_grpc.domain.account import Account, Session, role_names
from killrvideo_grpc.domain.errors import ServiceError
from killrvideo_grpc.domain.events import Event
from killrvideo_grpc.errors.responses import error_response
from killrvideo_grpc.security.access_keys import JsonWebKey
from killrvideo_grpc.service.authentication import CheckedToken
from killrvideo_grpc.service.sessions import Login

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_profile(account: Account) -> user_pb2.PublicProfile:
    """Return what everybody may see of an account."""
    return user_pb2.PublicProfile(
        user_id=str(account.user_id),
        first_name=account.first_name,
        last_name=account.last_name,
        created_date=to_timestamp(account.created_date),
    )


def to_user(account: Account) -> user_pb2.User:
    """Return what its owner and moderators may see of an account."""
    return user_pb2.User(
        user_id=str(account.user_id),
        first_name=account.first_name,
        last_name=account.last_name,
        email=account.email,
        roles=role_names(account.roles),
        account_status=account.status,
        created_date=to_timestamp(account.created_date),
        last_login_date=to_timestamp(account.last_login_date) if account.last_login_date else None,
    )


def to_register_response(account: Account) -> user_service_pb2.RegisterResponse:
    """Return the response to Register."""
    return user_service_pb2.RegisterResponse(
        user_id=str(account.user_id),
        first_name=account.first_name,
        last_name=account.last_name,
        email=account.email,
    )


def to_login_response(login: Login) -> user_service_pb2.LoginResponse:
    """Return the response to Login, RefreshToken, ChangePassword and ResetPassword."""
    return user_service_pb2.LoginResponse(
        token=login.token,
        user=to_user(login.account),
        expires_at=to_timestamp(login.expires_at),
        refresh_token=login.refresh_token,
        refresh_expires_at=to_timestamp(login.refresh_expires_at),
    )


def to_session(session: Session, expires_at: datetime, current: bool) -> session_pb2.Session:
    """Return what its owner may see of a session."""
    return session_pb2.Session(
        session_id=session.session_id,
        created_date=to_timestamp(session.created_date),
        last_used_date=to_timestamp(session.refreshed_date),
        expires_at=to_timestamp(expires_at),
        user_agent=session.user_agent,
        current=current,
    )


def to_audit_event(event: Event) -> audit_event_pb2.AuditEvent:
    """Return what moderators may see of an event."""
    return audit_event_pb2.AuditEvent(
        event_id=str(event.event_id),
        action=str(event.action),
        actor=event.actor,
        user_id=str(event.account),
        reason=event.reason,
        request_id=event.request_id,
        before=event.before,
        after=event.after,
        created_date=to_timestamp(event.at),
    )


def to_key_set(keys: Iterable[JsonWebKey]) -> json_web_key_pb2.JsonWebKeySet:
    """Return the public keys."""
    return json_web_key_pb2.JsonWebKeySet(keys=[json_web_key_pb2.JsonWebKey(**asdict(key)) for key in keys])


def to_token_result(checked: CheckedToken | ServiceError) -> user_service_pb2.TokenResult:
    """Return what services may know of a token."""
    if isinstance(checked, ServiceError):
        return user_service_pb2.TokenResult(reason=error_response(checked).spec.reason or "")
    account, session_id = checked.principal
    return user_service_pb2.TokenResult(
        active=True,
        user_id=str(account.user_id),
        roles=role_names(account.roles),
        session_id=session_id,
        expires_at=to_timestamp(checked.expires_at),
    )


# Any: protobuf accepts a dict of fields in place of a message, but its type stubs don't.
def to_timestamp(moment: datetime) -> Any:
    """Return the fields of a Timestamp for an aware datetime: three times as fast as Timestamp's own conversion."""
    since = moment - EPOCH
    return {"seconds": since.days * 86400 + since.seconds, "nanos": since.microseconds * 1000}
