"""Passwords and tokens: the only code that knows bcrypt and JSON Web Tokens."""
