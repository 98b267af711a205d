"""`killrvideo-grpc accounts reset-password`, `delete` and `unblock`."""

import asyncio
import math

import click

from killrvideo_grpc.cli.errors import require_output
from killrvideo_grpc.cli.operators import Email, opened_account_store, opened_operators, operator_actor
from killrvideo_grpc.domain.errors import TooManyAttempts
from killrvideo_grpc.domain.events import Cause
from killrvideo_grpc.service.recovery import IssuedCode


class Reason(click.ParamType[str]):
    """The reason of an event, by the contract's rule for moderators."""

    name = "reason"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from killrvideo_grpc.migration.rules import reason_violation

        if violation := reason_violation(value):
            self.fail(violation, param, ctx)
        return value


@click.command("reset-password")
@click.argument("email", type=Email())
def reset_password(email: str) -> None:
    """Print a code with which the owner of the account EMAIL can set a new password.

    Standard output has the code alone; the rest is on standard error. Give the code to the owner over a channel that
    nobody else reads: whoever has it owns the account. They send it, with the new password, to ResetPassword
    (POST /api/v1/users/password-reset), which logs them in and ends all other sessions.

    The code works once, for PASSWORD_RESET_MINUTES. A new code, a changed password or a changed address voids it. Until
    it is used, the old password goes on working. Works for moderators and suspended accounts too, but doesn't
    reinstate the latter. At most 5 codes an hour are made for one address.

    \b
    Example:
      code=$(killrvideo-grpc accounts reset-password ann@example.org)
    """  # noqa: D301 # \b tells click not to rewrap the lines that follow
    require_output()

    async def work() -> None:
        from killrvideo_grpc.server.bootstrap import build_reset_codes

        async with opened_account_store() as (settings, store):
            cause = Cause(operator_actor())
            try:
                issued = await build_reset_codes(settings, store).issue(email, cause, by_operator=True)
            except TooManyAttempts as error:
                raise click.ClickException(_too_many(error)) from None
            _print_code(issued)

    asyncio.run(work())


def _too_many(error: TooManyAttempts) -> str:
    minutes = math.ceil(error.retry_after / 60)
    return (
        f"Five codes were made for this address within an hour. Try again in {minutes} min, or lift the limit with"
        " killrvideo-grpc accounts unblock."
    )


def _print_code(issued: IssuedCode) -> None:
    click.echo(f"Code for {issued.email}, valid once, until {issued.expires_at:%Y-%m-%d %H:%M} UTC:", err=True)
    click.echo(issued.code)
    click.echo("Send it with the new password to ResetPassword (POST /api/v1/users/password-reset).", err=True)


@click.command("delete")
@click.argument("email_or_id", type=Email(), metavar="EMAIL|ID")
@click.option("--reason", type=Reason(), required=True, help="Why, for the audit trail: 1 to 500 characters.")
@click.option("--force", is_flag=True, help="Allow deleting the last moderator.")
def delete(email_or_id: str, reason: str, force: bool) -> None:
    """Delete the account with the e-mail address EMAIL or the user id ID, without asking, for good.

    As if its owner had deleted it: ends its sessions, erases its names, address and password, and frees the address.
    The audit trail keeps its events, with the user id and the reason. Needs no password: for owners who can't log in
    and ask to be erased. Works for suspended accounts too. Refuses to leave the service without a moderator, unless
    --force is given.

    \b
    Example:
      killrvideo-grpc accounts delete bob@example.org --reason 'erasure request 4711'
    """  # noqa: D301 # \b tells click not to rewrap the lines that follow

    async def work() -> None:
        async with opened_operators("e-mail address or id") as operators:
            account = await operators.delete(email_or_id, reason, force=force)
            click.echo(f"Deleted the account {account.user_id}.")

    asyncio.run(work())


@click.command("unblock")
@click.argument("email", type=Email())
def unblock(email: str) -> None:
    """Lift the limits that wrong passwords and reset codes have reached on the account EMAIL.

    For owners who get TOO_MANY_ATTEMPTS (429). Takes effect within 10 seconds in every process, while the service
    runs; counting begins anew. The limits on a network (MAX_FAILURES_PER_SOURCE, MAX_REGISTRATIONS_PER_SOURCE) stay:
    they end by themselves, after 15 minutes and an hour. Lifts no suspension.
    """

    async def work() -> None:
        async with opened_operators() as operators:
            account = await operators.unblock(email)
            click.echo(f"Unblocked the account {account.user_id}.")

    asyncio.run(work())
