"""A valid request for every RPC of the contract. Tests that cover the whole contract fail if one is missing here."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from killrvideo.user.v1 import user_service_pb2 as pb

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.services import Grant
from killrvideo_grpc.rpc.interceptors.authorization import access_table
from killrvideo_grpc.server.grpc_server import CONTRACT
from tests.rpc.conftest import Account
from tests.support.accounts import an_address
from tests.support.calls import Metadata, bearer, registration
from tests.support.services import added_to_file

REQUESTS: dict[str, Callable[[Account], Message]] = {
    "Register": lambda account: registration(an_address(), password=account.password),
    "Login": lambda account: pb.LoginRequest(email=account.email, password=account.password),
    "GetMe": lambda account: pb.GetMeRequest(),
    "UpdateMe": lambda account: pb.UpdateMeRequest(first_name="Bea"),
    "RefreshToken": lambda account: pb.RefreshTokenRequest(refresh_token=account.login.refresh_token),
    "ListSessions": lambda account: pb.ListSessionsRequest(),
    "EndSession": lambda account: pb.EndSessionRequest(session_id=str(uuid4())),
    "Logout": lambda account: pb.LogoutRequest(),
    "ChangePassword": lambda account: pb.ChangePasswordRequest(
        current_password=account.password, new_password="another password"
    ),
    # Keeps the password, so that tests can go on with the account.
    "ResetPassword": lambda account: pb.ResetPasswordRequest(code=account.reset_code(), new_password=account.password),
    "ChangeEmail": lambda account: pb.ChangeEmailRequest(password=account.password, new_email=an_address()),
    "DeleteMe": lambda account: pb.DeleteMeRequest(password=account.password),
    "GetUser": lambda account: pb.GetUserRequest(user_id=account.user_id),
    "BatchGetUsers": lambda account: pb.BatchGetUsersRequest(user_ids=[account.user_id, str(uuid4())]),
    "SearchUsers": lambda account: pb.SearchUsersRequest(query="ann", page_size=10),
    "AssignRole": lambda account: pb.AssignRoleRequest(user_id=account.user_id, role="creator", reason="test"),
    "RevokeRole": lambda account: pb.RevokeRoleRequest(user_id=account.user_id, role="creator", reason="test"),
    "SuspendUser": lambda account: pb.SuspendUserRequest(user_id=account.other.user_id, reason="test"),
    "ReinstateUser": lambda account: pb.ReinstateUserRequest(user_id=account.other.user_id, reason="test"),
    "EndUserSessions": lambda account: pb.EndUserSessionsRequest(user_id=account.other.user_id, reason="test"),
    "ListAuditEvents": lambda account: pb.ListAuditEventsRequest(user_id=account.user_id),
    "GetJsonWebKeySet": lambda account: pb.GetJsonWebKeySetRequest(),
    "CreatePasswordReset": lambda account: pb.CreatePasswordResetRequest(email=account.other.email),
    "CheckTokens": lambda account: pb.CheckTokensRequest(tokens=[account.login.token]),
}

RPCS: list[str] = [method.name for method in CONTRACT.methods]
_RULES = {path.rpartition("/")[2]: rule for path, rule in access_table([CONTRACT], public=[]).items()}
PUBLIC = [rpc for rpc in RPCS if _RULES[rpc] is None]
PRIVATE = [rpc for rpc in RPCS if _RULES[rpc] is not None]
FOR_ACCOUNTS = [rpc for rpc, rule in _RULES.items() if rule and rule.role]
FOR_SERVICES = [rpc for rpc, rule in _RULES.items() if rule and rule.grant]


def empower(account: Account, rpc: str) -> None:
    """Give the account the role that an RPC requires, and no other; or a service the grant, if no role suffices."""
    role = role_for(rpc)
    if role:
        account.change("roles", json.dumps([role]))
    if (grant := only_grant_for(rpc)) and grant not in account.service_tokens:
        account.service_tokens[grant] = added_to_file(account.database, grant)


def role_for(rpc: str) -> Role | None:
    """Return the role that an RPC requires; None for those that are public, or for services only."""
    rule = _RULES[rpc]
    return rule.role if rule else None


def grant_for(rpc: str) -> Grant | None:
    """Return the grant with which services may call an RPC, if any."""
    rule = _RULES[rpc]
    return rule.grant if rule else None


def only_grant_for(rpc: str) -> Grant | None:
    """Return the grant for an RPC that no account may call; None for other RPCs."""
    return None if role_for(rpc) else grant_for(rpc)


def token_for(rpc: str, account: Account) -> str:
    """Return the token with which an RPC succeeds, after `empower`."""
    grant = only_grant_for(rpc)
    return account.service_tokens[grant] if grant else account.login.token


def metadata_for(rpc: str, account: Account) -> Metadata:
    """Return the metadata with which an RPC succeeds, after `empower`."""
    grant = only_grant_for(rpc)
    return bearer(account.service_tokens[grant]) if grant else account.metadata


def good_request(rpc: str, account: Account) -> Any:
    """Return a request that succeeds for the account, once."""
    return REQUESTS[rpc](account)


def harmless_request(rpc: str, account: Account) -> Any:
    """Return such a request with wrong passwords, so that it can be sent repeatedly."""
    request = good_request(rpc, account)
    for field in ("current_password", "password"):
        if rpc in PRIVATE and field in request.DESCRIPTOR.fields_by_name:
            setattr(request, field, "wrong password")
    return request
