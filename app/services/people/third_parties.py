"""API tokens of third parties."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from app.domain.credentials import hash_secret
from app.domain.errors import NotAllowed, OperatorInputError
from app.domain.listing import Found, Listing
from app.domain.people import Principal, Scope
from app.services.people.grants import TOKEN_PREFIX, Grants, new_token
from app.stores.registry.api_tokens import ApiTokenRecord

# With `token:` before it, it fits wherever a principal's name stands.
_NAME = re.compile(r"[A-Za-z0-9._@-]{2,50}")


class ThirdParties:
    """Blocks on the database. A token lives until it expires or is revoked, whatever becomes of who made it."""

    def __init__(self, grants: Grants, now_us: Callable[[], int]) -> None:
        self._grants = grants
        self._now_us = now_us

    def page(self, listing: Listing) -> Found[ApiTokenRecord]:
        """Some of them, revoked ones too."""
        return self._grants.api_tokens.page(listing)

    def get(self, name: str) -> ApiTokenRecord:
        """Raises UnknownNameError."""
        return self._grants.api_tokens.get(name)

    def create(
        self, by: Principal, name: str, scopes: Collection[Scope], expires_us: int | None
    ) -> tuple[ApiTokenRecord, str]:
        """A new token and its secret, told this once. Raises OperatorInputError, NameTakenError, NotAllowed."""
        if _NAME.fullmatch(name) is None:
            raise OperatorInputError("a token's name has 2 to 50 characters of a-z A-Z 0-9 . _ - @")
        if not scopes:
            raise OperatorInputError("a token without a scope is good for nothing")
        if beyond := sorted(set(scopes) - by.scopes):
            raise NotAllowed(f"you can give no right that you do not have: {', '.join(beyond)}")
        now_us = self._now_us()
        if expires_us is not None and expires_us <= now_us:
            raise OperatorInputError("the token would have expired already")
        secret = new_token()
        digest = hash_secret(secret)
        with self._grants.changing:
            token = self._grants.api_tokens.create(
                name, scopes, digest, expires_us=expires_us, actor=by.name, at_us=now_us
            )
            self._grants.add_token(digest, token)
        return token, secret

    def revoke(self, by: Principal, name: str) -> None:
        """Refuse a token from now on. Raises UnknownNameError, RefusedChangeError."""
        with self._grants.changing:
            self._grants.remove([self._grants.api_tokens.revoke(name, actor=by.name, at_us=self._now_us())])

    def expiry_of(self, by: Principal) -> int | None:
        """Until when a principal's own token holds; None: for good, or as long as the hub runs."""
        if by.session_id is not None:
            return self._grants.sessions.expiry(by.session_id)
        if by.name.startswith(TOKEN_PREFIX):
            return self._grants.api_tokens.get(by.name.removeprefix(TOKEN_PREFIX)).expires_us
        return None
