"""Log-ins, operators and API tokens as they travel."""

from __future__ import annotations

from typing import Annotated

import msgspec

from app.domain.people import Role, Scope
from app.protocol.api.common import TimeUs
from app.protocol.api.texts import NameTold, SecretTold

# What is typed at a log-in may be anything; only its length is bounded.
TypedName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["claire"])]
TypedPassword = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
NewPassword = Annotated[
    str,
    msgspec.Meta(
        min_length=12, max_length=200, description="not the name, and none of those that everybody tries first"
    ),
]
OperatorName = Annotated[
    str,
    msgspec.Meta(
        min_length=2,
        max_length=64,
        pattern=r"^[A-Za-z0-9._@-]+$",
        description="unique, whatever its case",
        examples=["claire"],
    ),
]
FullName = Annotated[str, msgspec.Meta(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["Claire Martin"])]
TokenName = Annotated[
    str,
    msgspec.Meta(
        min_length=2,
        max_length=50,
        pattern=r"^[A-Za-z0-9._@-]+$",
        description="stands as token:NAME in every log",
        examples=["billing"],
    ),
]


class LogIn(msgspec.Struct, frozen=True):
    """Who wants in."""

    name: TypedName
    password: TypedPassword


class SessionInfo(msgspec.Struct, frozen=True):
    """Who this token is. `role` is null for an API token; `expires_us` for one that holds for good."""

    name: NameTold
    full_name: Annotated[str, msgspec.Meta(examples=["Claire Martin"])]
    role: Role | None
    scopes: list[Scope]
    expires_us: TimeUs | None
    # True: only PUT /v1/me/password is answered until it is done.
    must_change_password: bool


class NewSession(SessionInfo, frozen=True):
    """A log-in; the token is told this once and goes into each request: `Authorization: Bearer TOKEN`."""

    token: SecretTold


class Account(msgspec.Struct, frozen=True):
    """One's own."""

    name: NameTold
    full_name: Annotated[str, msgspec.Meta(examples=["Claire Martin"])]
    role: Role
    password_us: TimeUs
    created_us: TimeUs


class AccountEdit(msgspec.Struct, frozen=True):
    """What one may change of one's own."""

    full_name: FullName


class PasswordChange(msgspec.Struct, frozen=True):
    """One's own password; ends one's other sessions."""

    old: TypedPassword
    new: NewPassword


class OperatorInfo(msgspec.Struct, frozen=True):
    """An operator as administrators see them. `disabled_us` and `locked_until_us` are null where it is not so."""

    name: str
    full_name: str
    role: Role
    must_change_password: bool
    password_us: TimeUs
    created_us: TimeUs
    disabled_us: int | None
    failed_logins: int
    locked_until_us: int | None


class NewOperator(msgspec.Struct, frozen=True):
    """An operator to be made."""

    name: OperatorName
    role: Role
    full_name: FullName = ""


class OperatorEdit(msgspec.Struct, frozen=True):
    """What is to be changed; what is null or left out stays. Disabling ends the operator's sessions."""

    full_name: FullName | None = None
    role: Role | None = None
    disabled: bool | None = None


class OneTimePassword(msgspec.Struct, frozen=True):
    """A password that its operator must change at their log-in; told this once."""

    operator: OperatorInfo
    one_time_password: str


class ApiTokenInfo(msgspec.Struct, frozen=True):
    """A third party's token, without its secret. Null: holds for good, never used, not revoked."""

    name: str
    scopes: list[Scope]
    created_by: str
    created_us: TimeUs
    expires_us: int | None
    used_us: int | None
    revoked_us: int | None


class NewApiToken(msgspec.Struct, frozen=True):
    """A token to be made; its scopes are some of its maker's own."""

    name: TokenName
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=32)]
    expires_us: Annotated[int, msgspec.Meta(ge=0, le=2**53, description="UTC microseconds since 1970")] | None = None


class ApiTokenSecret(msgspec.Struct, frozen=True):
    """A new token; told this once."""

    api_token: ApiTokenInfo
    token: str
