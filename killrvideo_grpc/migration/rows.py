"""What a source of accounts yields, row by row."""

from dataclasses import dataclass

from killrvideo_grpc.domain.account import Credentials


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that can be imported, and where it stands.

    `before` is what the source says about it; `remarks` are what is lost. If another account owns its address, it is
    imported as profile only if `may_lose_address` is set. `rewrites` is whether the source's row differs from ours,
    `unusable_password` the kind of a password that is left out, `source_email` the key of the source's credentials.
    """

    where: str
    credentials: Credentials
    before: str = ""
    remarks: tuple[str, ...] = ()
    may_lose_address: bool = False
    rewrites: bool = False
    unusable_password: str = ""
    source_email: str = ""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that can't be imported, and why. Neither quotes the row."""

    where: str
    reason: str
