"""The settings, and the check of the `.env` file."""

import os

# Pydantic's plugins, which any package can bring, would see the secrets. Looking for them takes 20 ms.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "true"
