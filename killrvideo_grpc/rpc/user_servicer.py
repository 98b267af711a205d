"""The RPCs of UserService: each unpacks the request, calls a use case, and converts the result to the response."""

from collections.abc import Sequence
from uuid import UUID

from killrvideo.user.v1 import json_web_key_pb2, user_pb2, user_service_pb2, user_service_pb2_grpc
from structlog.contextvars import bind_contextvars

from killrvideo_grpc.domain.account import Role
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.rpc import convert
from killrvideo_grpc.rpc.call import Context, current_call
from killrvideo_grpc.rpc.client_info import ClientInfoReader
from killrvideo_grpc.security.access_keys import JsonWebKey
from killrvideo_grpc.service.accounts import Accounts
from killrvideo_grpc.service.authentication import Authenticator, ClientInfo, Principal
from killrvideo_grpc.service.moderation import Moderation
from killrvideo_grpc.service.recovery import Recovery, ResetCodes
from killrvideo_grpc.service.sessions import Sessions


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Implementation of the contract. Its domain errors become statuses in the errors interceptor."""

    def __init__(
        self,
        accounts: Accounts,
        sessions: Sessions,
        recovery: Recovery,
        reset_codes: ResetCodes,
        moderation: Moderation,
        client_info: ClientInfoReader,
        authenticator: Authenticator,
        public_keys: Sequence[JsonWebKey],
    ) -> None:
        self._authenticator = authenticator
        self._key_set = convert.to_key_set(public_keys)
        self._accounts = accounts
        self._sessions = sessions
        self._recovery = recovery
        self._reset_codes = reset_codes
        self._moderation = moderation
        self._client_info = client_info

    async def Register(
        self, request: user_service_pb2.RegisterRequest, context: Context
    ) -> user_service_pb2.RegisterResponse:
        account = await self._accounts.register(
            request.email, request.password, request.first_name, request.last_name, self._client()
        )
        bind_contextvars(user_id=str(account.user_id))
        return convert.to_register_response(account)

    async def Login(self, request: user_service_pb2.LoginRequest, context: Context) -> user_service_pb2.LoginResponse:
        login = await self._accounts.login(request.email, request.password, self._client())
        bind_contextvars(user_id=str(login.account.user_id))
        return convert.to_login_response(login)

    async def GetMe(self, request: user_service_pb2.GetMeRequest, context: Context) -> user_pb2.User:
        return convert.to_user(_principal().account)

    async def UpdateMe(self, request: user_service_pb2.UpdateMeRequest, context: Context) -> user_pb2.User:
        first_name = request.first_name if request.HasField("first_name") else None
        last_name = request.last_name if request.HasField("last_name") else None
        return convert.to_user(await self._accounts.rename(_principal().account, first_name, last_name, self._client()))

    async def RefreshToken(
        self, request: user_service_pb2.RefreshTokenRequest, context: Context
    ) -> user_service_pb2.LoginResponse:
        login = await self._sessions.refresh(request.refresh_token, self._client())
        bind_contextvars(user_id=str(login.account.user_id))
        return convert.to_login_response(login)

    async def ListSessions(
        self, request: user_service_pb2.ListSessionsRequest, context: Context
    ) -> user_service_pb2.ListSessionsResponse:
        principal = _principal()
        return user_service_pb2.ListSessionsResponse(
            sessions=[
                convert.to_session(
                    session, self._sessions.lifetimes.end_of(session), session.session_id == principal.session_id
                )
                for session in self._sessions.unexpired(principal.account)
            ]
        )

    async def EndSession(
        self, request: user_service_pb2.EndSessionRequest, context: Context
    ) -> user_service_pb2.EndSessionResponse:
        await self._sessions.end(_principal(), str(UUID(request.session_id)), self._client())
        return user_service_pb2.EndSessionResponse()

    async def Logout(
        self, request: user_service_pb2.LogoutRequest, context: Context
    ) -> user_service_pb2.LogoutResponse:
        await self._sessions.logout(_principal(), request.all_sessions, self._client())
        return user_service_pb2.LogoutResponse()

    async def ChangePassword(
        self, request: user_service_pb2.ChangePasswordRequest, context: Context
    ) -> user_service_pb2.LoginResponse:
        login = await self._accounts.change_password(
            _principal(), request.current_password, request.new_password, self._client()
        )
        return convert.to_login_response(login)

    async def ResetPassword(
        self, request: user_service_pb2.ResetPasswordRequest, context: Context
    ) -> user_service_pb2.LoginResponse:
        login = await self._recovery.reset_password(request.code, request.new_password, self._client())
        bind_contextvars(user_id=str(login.account.user_id))
        return convert.to_login_response(login)

    async def ChangeEmail(self, request: user_service_pb2.ChangeEmailRequest, context: Context) -> user_pb2.User:
        return convert.to_user(
            await self._accounts.change_email(_principal(), request.password, request.new_email, self._client())
        )

    async def DeleteMe(
        self, request: user_service_pb2.DeleteMeRequest, context: Context
    ) -> user_service_pb2.DeleteMeResponse:
        await self._accounts.delete(_principal(), request.password, self._client())
        return user_service_pb2.DeleteMeResponse()

    async def GetUser(self, request: user_service_pb2.GetUserRequest, context: Context) -> user_pb2.PublicProfile:
        return convert.to_profile(await self._accounts.get(UUID(request.user_id)))

    async def BatchGetUsers(
        self, request: user_service_pb2.BatchGetUsersRequest, context: Context
    ) -> user_service_pb2.BatchGetUsersResponse:
        found = await self._accounts.get_many([UUID(user_id) for user_id in request.user_ids])
        return user_service_pb2.BatchGetUsersResponse(
            users=map(convert.to_profile, found.accounts), missing_user_ids=map(str, found.missing)
        )

    async def SearchUsers(
        self, request: user_service_pb2.SearchUsersRequest, context: Context
    ) -> user_service_pb2.SearchUsersResponse:
        accounts, token = await self._accounts.search(request.query, request.page_size, request.page_token)
        return user_service_pb2.SearchUsersResponse(users=map(convert.to_user, accounts), next_page_token=token)

    async def AssignRole(self, request: user_service_pb2.AssignRoleRequest, context: Context) -> user_pb2.User:
        return convert.to_user(
            await self._moderation.assign_role(
                _principal(), UUID(request.user_id), Role(request.role), request.reason, self._client()
            )
        )

    async def RevokeRole(self, request: user_service_pb2.RevokeRoleRequest, context: Context) -> user_pb2.User:
        return convert.to_user(
            await self._moderation.revoke_role(
                _principal(), UUID(request.user_id), Role(request.role), request.reason, self._client()
            )
        )

    async def SuspendUser(self, request: user_service_pb2.SuspendUserRequest, context: Context) -> user_pb2.User:
        return convert.to_user(
            await self._moderation.suspend(_principal(), UUID(request.user_id), request.reason, self._client())
        )

    async def ReinstateUser(self, request: user_service_pb2.ReinstateUserRequest, context: Context) -> user_pb2.User:
        return convert.to_user(
            await self._moderation.reinstate(_principal(), UUID(request.user_id), request.reason, self._client())
        )

    async def EndUserSessions(
        self, request: user_service_pb2.EndUserSessionsRequest, context: Context
    ) -> user_service_pb2.EndUserSessionsResponse:
        await self._moderation.end_sessions(_principal(), UUID(request.user_id), request.reason, self._client())
        return user_service_pb2.EndUserSessionsResponse()

    async def ListAuditEvents(
        self, request: user_service_pb2.ListAuditEventsRequest, context: Context
    ) -> user_service_pb2.ListAuditEventsResponse:
        user_id = UUID(request.user_id) if request.user_id else None
        events, token = await self._moderation.events(user_id, request.page_size, request.page_token)
        return user_service_pb2.ListAuditEventsResponse(
            events=map(convert.to_audit_event, events), next_page_token=token
        )

    async def GetJsonWebKeySet(
        self, request: user_service_pb2.GetJsonWebKeySetRequest, context: Context
    ) -> json_web_key_pb2.JsonWebKeySet:
        return self._key_set

    async def CheckTokens(
        self, request: user_service_pb2.CheckTokensRequest, context: Context
    ) -> user_service_pb2.CheckTokensResponse:
        checked = await self._authenticator.check(request.tokens)
        return user_service_pb2.CheckTokensResponse(results=map(convert.to_token_result, checked))

    async def CreatePasswordReset(
        self, request: user_service_pb2.CreatePasswordResetRequest, context: Context
    ) -> user_service_pb2.CreatePasswordResetResponse:
        call = current_call.get()
        if call.principal is None:
            raise LookupError("no service makes this call")
        issued = await self._reset_codes.issue(request.email, Cause(call.principal.actor, request_id=call.request_id))
        return user_service_pb2.CreatePasswordResetResponse(
            code=issued.code, expires_at=convert.to_timestamp(issued.expires_at), email=issued.email
        )

    def _client(self) -> ClientInfo:
        return self._client_info.read_client_info(current_call.get())


def _principal() -> Principal:
    principal = current_call.get().principal
    if not isinstance(principal, Principal):
        raise LookupError("no account makes this call")  # noqa: TRY004 # of the call, not of an argument
    return principal
