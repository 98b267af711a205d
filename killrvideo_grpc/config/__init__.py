"""The settings, and the check of the `.env` file."""
