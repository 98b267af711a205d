"""The command line: `killrvideo-grpc`, or `python -m killrvideo_grpc`."""

import click

from killrvideo_grpc.cli.account_management import delete, reset_password, unblock
from killrvideo_grpc.cli.accounts import accounts
from killrvideo_grpc.cli.config import config
from killrvideo_grpc.cli.edge import edge
from killrvideo_grpc.cli.errors import Commands
from killrvideo_grpc.cli.health import health
from killrvideo_grpc.cli.keys import keys
from killrvideo_grpc.cli.roles import roles
from killrvideo_grpc.cli.schema import schema
from killrvideo_grpc.cli.serve import serve
from killrvideo_grpc.cli.services import services


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="killrvideo-grpc", message="%(prog)s %(version)s")
def main() -> None:
    """KillrVideo's user service over gRPC: accounts, logins, profiles and roles.

    Settings are read from environment variables and from a `.env` file in the working directory; .env.example in the
    source repository documents all of them. Without any, the service listens on 127.0.0.1:50051 and stores its
    accounts in ./data. If `.env` can't be read or parsed, no command runs except `edge config`, which uses no settings.

    \b
    A first session:
      killrvideo-grpc serve                                   start the service; prints how to register
      killrvideo-grpc roles assign ann@example.org moderator  make a registered account the first moderator
      killrvideo-grpc config check                            print the settings in force
    """  # noqa: D301 # \b tells click not to rewrap the lines that follow


for command in (reset_password, delete, unblock):
    accounts.add_command(command)
for command in (serve, roles, accounts, services, keys, schema, edge, config, health):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="killrvideo-grpc")
