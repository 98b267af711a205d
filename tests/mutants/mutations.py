"""Mutations of what decides: access, tokens, passwords, claims, compare-and-set, sessions, throttling and health."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`old`, which occurs once in `file`, is replaced by `new`. At least one of `tests` has to fail then."""

    file: str
    old: str
    new: str
    tests: list[str]


ACCESS = ["tests/rpc/test_access.py"]
AUTHENTICATION = ["tests/unit/test_authentication.py"]
CHANGES = ["tests/unit/test_changes.py"]
ADDRESSES = ["tests/stores/astra/test_address_changes.py"]
CLAIMS = ["tests/stores/astra/test_claims.py", "tests/stores/astra/test_races.py"]
RECOVERY = ["tests/unit/test_recovery.py"]
EXPORTS = ["tests/stores/test_migration.py"]
HASHING = ["tests/e2e/test_hashing_pool.py"]
IMPORTS = ["tests/stores/astra/test_imports.py"]
PASSWORDS = ["tests/unit/test_passwords.py"]
PROJECTIONS = ["tests/stores/astra/test_projections.py"]
RACES = ["tests/stores/astra/test_races.py", "tests/stores/astra/test_changes.py"]
REFRESH = ["tests/unit/test_refresh_tokens.py"]
REMEMBERED = ["tests/unit/test_service_authentication.py"]
SERVICES = ["tests/rpc/test_service_access.py"]
SESSIONS = ["tests/unit/test_sessions.py"]
SQLITE_IMPORTS = ["tests/stores/test_store_contract_imports.py"]
SQLITE_MODERATORS = ["tests/stores/test_store_contract_moderators.py"]
TOKENS = ["tests/unit/test_access_tokens.py"]
THROTTLE = ["tests/unit/test_throttle.py"]
HEALTH = ["tests/unit/test_health.py"]
EXT_AUTHZ = ["tests/rpc/test_ext_authz.py"]
SIBLINGS = ["tests/rest/test_siblings.py"]
SIBLING_ANSWERS = ["tests/rest/test_sibling_answers.py"]

PRODUCT = "killrvideo_grpc"
AUTHORIZATION = f"{PRODUCT}/rpc/interceptors/authorization.py"
SERVICE_AUTHENTICATOR = f"{PRODUCT}/service/service_authentication.py"
AUTHENTICATOR = f"{PRODUCT}/service/authentication.py"
ACCESS_TOKENS = f"{PRODUCT}/security/access_tokens.py"
HASHER = f"{PRODUCT}/security/hashing_process.py"
TRANSITIONS = f"{PRODUCT}/domain/changes.py"
THROTTLE_FILE = f"{PRODUCT}/service/throttle.py"
ATTEMPT = f"{PRODUCT}/service/password_attempt.py"
ASTRA = f"{PRODUCT}/stores/astra"
CHECK = f"{PRODUCT}/rpc/ext_authz_servicer.py"
EDGE = f"{PRODUCT}/edge"

MUTANTS = [
    # Access
    Mutant(
        AUTHORIZATION, "(bearer_token(call), rule)", "(bearer_token(call), AccessRule(Role.VIEWER, rule.grant))", ACCESS
    ),
    Mutant(AUTHORIZATION, "if len(headers) > 1:", "if len(headers) > 2:", ACCESS),
    Mutant(
        AUTHORIZATION,
        "rule = AccessRule(ROLES[access], grant)",
        "rule = AccessRule(ROLES.get(access, Role.VIEWER), grant)",
        ["tests/rpc/test_roles_ladder.py"],
    ),
    Mutant(AUTHENTICATOR, "if claims.session_id not in account.sessions:", "if not account.sessions:", AUTHENTICATION),
    Mutant(AUTHENTICATOR, "if account.status is not AccountStatus.ACTIVE:", "if False:", AUTHENTICATION),
    Mutant(
        AUTHENTICATOR,
        "if not principal.account.may_act_as(rule.role):",
        "if rule.role not in principal.account.roles:",
        AUTHENTICATION,
    ),
    Mutant(f"{PRODUCT}/domain/account.py", "tuple(Role)[rung:]", "tuple(Role)[: rung + 1]", AUTHENTICATION),
    Mutant(AUTHENTICATOR, "if grant is None or grant not in", "if grant is not None and grant not in", SERVICES),
    Mutant(AUTHENTICATOR, "            raise GrantRequired(rule.grant)\n", "            return principal\n", SERVICES),
    Mutant(SERVICE_AUTHENTICATOR, "if self._read_at < arrived - MAX_AGE:", "if self._read_at < 0:", REMEMBERED),
    Mutant(SERVICE_AUTHENTICATOR, "if self._waiting >= MAX_WAITING:", "if False:", REMEMBERED),
    Mutant(SERVICE_AUTHENTICATOR, "self._next_read_at = began + READ_INTERVAL", "pass", REMEMBERED),
    # Tokens
    Mutant(ACCESS_TOKENS, "if claims.expires_at <= datetime.now(UTC):", "if False:", ACCESS),
    Mutant(ACCESS_TOKENS, "algorithms=[self._algorithm]", 'algorithms=["HS256", "HS512"]', TOKENS),
    Mutant(ACCESS_TOKENS, "if each.kid == kid", "if each", ACCESS),
    Mutant(ACCESS_TOKENS, "audience=self._audience,", 'audience=[self._audience, "others"],', ACCESS),
    Mutant(ACCESS_TOKENS, "if str(user_id) != subject:", "if False:", ACCESS),
    Mutant(ACCESS_TOKENS, "min(issued + self._lifetime, latest", "max(issued + self._lifetime, latest", AUTHENTICATION),
    Mutant(
        f"{PRODUCT}/security/signed_tokens.py",
        "is_ours = self._signed(claims, key) == token",
        "is_ours = True",
        REFRESH,
    ),
    Mutant(
        f"{PRODUCT}/security/page_tokens.py",
        ' or claims["of"] != _digest(scope)',
        "",
        ["tests/unit/test_accounts.py"],
    ),
    # Passwords
    Mutant(HASHER, "len(secret) > MAX_BYTES or ", "", PASSWORDS),
    Mutant(HASHER, 'b"\\0" in secret or ', "", PASSWORDS),
    Mutant(
        f"{PRODUCT}/security/hashing_pool.py",
        "await self._ask(await self._start(), [False,",
        "await self._ask(hasher, [False,",
        HASHING,
    ),
    Mutant(HASHER, "range(cost_of(password_hash), self._rounds)", "range(0)", PASSWORDS),
    Mutant(
        f"{PRODUCT}/service/accounts.py",
        "        if not is_right:\n            raise InvalidCredentials\n        return credentials.account",
        "        return credentials.account",
        ["tests/unit/test_accounts.py"],
    ),
    # Changes of an account
    Mutant(TRANSITIONS, "MAX_SESSIONS = 20 ", "MAX_SESSIONS = 21 ", CHANGES),
    Mutant(TRANSITIONS, "live[: MAX_SESSIONS - 1]", "live[:MAX_SESSIONS]", CHANGES),
    Mutant(TRANSITIONS, "REUSE_INTERVAL = timedelta(minutes=10)", "REUSE_INTERVAL = timedelta(minutes=11)", CHANGES),
    Mutant(TRANSITIONS, "<= REUSE_INTERVAL", "< REUSE_INTERVAL", CHANGES),
    Mutant(TRANSITIONS, "self.generation == session.generation - 1", "True", CHANGES),
    Mutant(TRANSITIONS, "or self.generation > session.generation", "", CHANGES),
    Mutant(TRANSITIONS, "if account.credential_id != credential_id:", "if False:", CHANGES),
    Mutant(TRANSITIONS, "self.password_hash if is_current else None", "self.password_hash", CHANGES),
    Mutant(TRANSITIONS, "before.is_active_moderator and not self._is_moderator", "False", CHANGES),
    Mutant(f"{PRODUCT}/domain/account.py", "min(session.refreshed_date", "max(session.refreshed_date", SESSIONS),
    Mutant(
        f"{PRODUCT}/stores/sqlite/writes.py",
        "if transition.loses_moderator(before) and not force:",
        "if False:",
        SQLITE_MODERATORS,
    ),
    # Claims
    Mutant(f"{ASTRA}/store.py", "if owner and await account_exists(self._api, owner):", "if False:", CLAIMS),
    Mutant(f"{ASTRA}/claims.py", "return owner_of(claim) != user_id or", "return not claim or", CLAIMS),
    Mutant(f"{ASTRA}/sweep.py", 'if at - document["written"] > UNCLAIMED_AGE:', "if True:", CLAIMS),
    # Compare and set
    Mutant(f"{ASTRA}/document.py", "[:RECENT]", "[:0]", RACES),
    Mutant(f"{ASTRA}/document.py", "[:RECENT]", "[: RECENT - 1]", ["tests/stores/astra/test_account_documents.py"]),
    Mutant(f"{ASTRA}/accounts.py", 'if self._base["revision"] not in revisions:', "if False:", RACES),
    Mutant(f"{ASTRA}/accounts.py", "self._find_written(document) or await", "await", RACES),
    Mutant(
        f"{ASTRA}/revisions.py",
        'return await api.compare_and_set(before["revision"], update)',
        'await api.compare_and_set(before["revision"], update)\n    return True',
        RACES,
    ),
    # The moderator index
    Mutant(f"{ASTRA}/moderator_index.py", "if not ids and not force:", "if False:", RACES),
    Mutant(f"{ASTRA}/moderator_index.py", '{*seen["leaving"], member})', 'set(seen["leaving"]))', RACES),
    Mutant(
        f"{ASTRA}/moderator_index.py",
        "if document and listed and not await write",
        "if False and not await write",
        RACES,
    ),
    Mutant(f"{ASTRA}/accounts.py", "        if leaves:\n", "        if False:\n", RACES),
    # Projections
    Mutant(f"{ASTRA}/sweep.py", 'if at - document["row_changed"] >= SETTLE_TIME:', "if True:", PROJECTIONS),
    Mutant(f"{ASTRA}/document.py", "in (PROJECT_TWICE, SETTLE) else {})", "in () else {})", PROJECTIONS),
    Mutant(
        f"{ASTRA}/projections.py",
        "row = await self._write_row(document)\n        if not await write(",
        "row = row_of(document)\n        if not await write(",
        PROJECTIONS,
    ),
    # Imports and exports
    Mutant(f"{ASTRA}/imports.py", "if not await write(self._api, existing, kept):", "if False:", IMPORTS),
    Mutant(f"{ASTRA}/imports.py", "if await self._is_taken(claim):", "if False:", IMPORTS),
    Mutant(f"{ASTRA}/sweep.py", 'elif "claim" in document and not', "elif not", IMPORTS),
    Mutant(f"{PRODUCT}/stores/sqlite/writes.py", "\" AND email != '' AND userid", '" AND userid', SQLITE_IMPORTS),
    Mutant(f"{PRODUCT}/migration/exporter.py", "os.link(partial, path)", "partial.replace(path)", EXPORTS),
    # Throttling
    Mutant(
        THROTTLE_FILE,
        "await asyncio.shield(self.start(self.count(limits)))",
        "await self.count(limits)",
        THROTTLE,
    ),
    Mutant(ATTEMPT, "            if not has_begun:\n", "            if True:\n", THROTTLE),
    Mutant(ATTEMPT, "            self._throttle.check(limits)  #", "            #", THROTTLE),
    Mutant(ATTEMPT, "limits = self._own if is_known else everything\n", "limits = everything\n", THROTTLE),
    Mutant(THROTTLE_FILE, "(self._digest, *self._former_digests)", "(self._digest,)", THROTTLE),
    Mutant(THROTTLE_FILE, "            if count > limit.maximum:", "            if count >= limit.maximum:", THROTTLE),
    # Health
    Mutant(f"{PRODUCT}/rpc/health.py", "        if not self._is_stopping:\n", "        if True:\n", HEALTH),
    Mutant(f"{PRODUCT}/rpc/health.py", "            is_serving = False\n", "            is_serving = True\n", HEALTH),
    # Secrets
    Mutant(
        f"{PRODUCT}/rpc/interceptors/errors.py",
        "error=type(error).__qualname__",
        "error=repr(error)",
        ["tests/rpc/test_protocol.py"],
    ),
    # Password resets
    Mutant(f"{PRODUCT}/domain/account.py", "at >= code.expires_at", "False", RECOVERY),
    Mutant(
        f"{PRODUCT}/domain/account.py",
        "(code.by_operator or Role.MODERATOR not in self.roles)",
        "True",
        RECOVERY,
    ),
    Mutant(TRANSITIONS, "credential_id=self.new_credential_id, sessions={}, reset_code=None)", "sessions={})", CHANGES),
    Mutant(f"{PRODUCT}/service/recovery.py", "UUID(match[1]) if match else NIL_UUID", "UUID(code[:36])", RECOVERY),
    # New addresses
    Mutant(f"{ASTRA}/store.py", "if uses_claim(document, claim) else None", "if document else None", ADDRESSES),
    Mutant(f"{ASTRA}/address_change.py", "if self._new is None or claim is None:", "if claim is None:", ADDRESSES),
    Mutant(
        f"{ASTRA}/address_change.py",
        "if document and not is_deleted(document) and not await write(api, document, with_new_revision(document)):",
        "if False:",
        ADDRESSES,
    ),
    Mutant(
        f"{ASTRA}/address_change.py",
        "return await self._mark(new, found.get(new))",
        "return owner == self._user_id or await self._mark(new, found.get(new))",
        ADDRESSES,
    ),
    # Siblings
    Mutant(CHECK, "SessionEnded() if isinstance(error, UserNotFound) else error", "error", EXT_AUTHZ),
    Mutant(CHECK, "if response.spec.status not in DENIED:", "if False:", EXT_AUTHZ),
    Mutant(f"{EDGE}/siblings.py", '"failure_mode_allow": False', '"failure_mode_allow": True', SIBLING_ANSWERS),
    Mutant(f"{EDGE}/siblings.py", '*({"remove": name} for name in IDENTITY_HEADERS),', "", SIBLINGS),
    Mutant(f"{EDGE}/siblings.lua", 'find("[%w%c/\\\\.:;%%-]")', 'find("[%c/\\\\.:;%%-]")', SIBLINGS),
    Mutant(f"{EDGE}/routes.py", "(?i:{", "(?:{", SIBLINGS),
    Mutant(f"{EDGE}/routes.py", 'else "(/.*)?"', 'else ""', SIBLINGS),
    Mutant(f"{EDGE}/routes.py", '"refuse": True', '"refuse": False', SIBLINGS),
]
