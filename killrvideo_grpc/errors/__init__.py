"""The one table of errors, and the answers that are made from it."""
