"""Passwords and tokens. Only this package uses bcrypt and JSON Web Tokens."""
