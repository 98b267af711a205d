"""The one table of errors, and the responses that are made from it."""
