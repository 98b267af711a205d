"""The headers in which the edge tells siblings who makes a request. It removes them from incoming requests."""

USER_ID, USER_ROLES, SESSION_ID = "x-user-id", "x-user-roles", "x-session-id"
IDENTITY_HEADERS = (USER_ID, USER_ROLES, SESSION_ID)
