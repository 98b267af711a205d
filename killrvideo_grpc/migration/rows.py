"""What a source of accounts yields, row by row."""

from dataclasses import dataclass

from killrvideo_grpc.domain.account import Credentials


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that can be imported, and where it stands in the source."""

    where: str
    credentials: Credentials
    before: str = ""  # its state in the source, for the event
    remarks: tuple[str, ...] = ()  # what is lost
    profile_only_because: str = ""  # to be reported: why nobody can log in
    from_killrvideo: bool = False  # becomes profile only if another account owns the address
    rewrites: bool = False  # the source's row differs from the account's
    unusable_password: str = ""  # the kind of a password that is left out
    source_emails: tuple[str, ...] = ()  # the keys of its credentials in the source


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that can't be imported, and why. Neither quotes the row."""

    where: str
    reason: str
