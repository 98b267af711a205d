"""The store that the settings name."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from killrvideo_grpc.config.settings import Settings
from killrvideo_grpc.domain.errors import SetupError, UnusableStore
from killrvideo_grpc.domain.instrumentation import NOOP, Instrumentation
from killrvideo_grpc.domain.ports import AccountStore
from killrvideo_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from killrvideo_grpc.stores.data_api.client import DataApi


async def open_store(settings: Settings, instrumentation: Instrumentation = NOOP) -> AccountStore:
    """Open the store that the settings name, and check its schema.

    Raise UnusableStore, or StoreUnavailable if trying again later may help.
    """
    if settings.store == "sqlite":
        return SqliteStore(settings.sqlite_path, instrumentation)
    # Importing astrapy takes a quarter of the start-up time.
    from killrvideo_grpc.stores.astra import schema as astra_schema
    from killrvideo_grpc.stores.astra.store import AstraStore

    async with AsyncExitStack() as stack:
        api = open_data_api(settings, instrumentation)
        stack.push_async_callback(api.close)
        if differences := await astra_schema.check(api):
            texts = "; ".join(difference.text for difference in differences)
            text = f"keyspace {settings.astra_db_keyspace} does not fit. Missing or wrong: {texts}"
            raise UnusableStore(f"{text}. {astra_schema.advice(differences)}")
        stack.pop_all()  # success: from here on the store closes `api`
        return AstraStore(api)


def open_data_api(settings: Settings, instrumentation: Instrumentation = NOOP) -> "DataApi":
    """Return a client for the Data API that the settings name. Send nothing yet. Raise SetupError."""
    from killrvideo_grpc.stores.data_api.client import DataApi, Keyspace

    token, password = settings.astra_db_application_token, settings.astra_db_password
    keyspace = Keyspace(
        endpoint=settings.astra_db_api_endpoint or "",
        name=settings.astra_db_keyspace,
        environment=settings.astra_db_environment,
        token=token.get_secret_value() if token else None,
        username=settings.astra_db_username,
        password=password.get_secret_value() if password else None,
        max_wait=settings.astra_db_timeout_seconds,
    )
    try:
        return DataApi(keyspace, instrumentation)
    except OSError as error:
        text = f"The certificates that this machine trusts can't be read: {error.strerror}."
        raise SetupError(f"{text} Check SSL_CERT_FILE and SSL_CERT_DIR.") from None
