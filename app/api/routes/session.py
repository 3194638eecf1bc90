"""Logging in and out, and one's own account."""

from __future__ import annotations

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from app.api.access import ApiRequest, needs, public
from app.api.routing import editing, making, putting, reading, removing
from app.api.versions import IfMatch, etag, version_of
from app.domain.people import Principal
from app.protocol.api.people import Account, AccountEdit, LogIn, NewSession, PasswordChange, SessionInfo
from app.services.people.administration import Administration
from app.services.people.logins import Caller, Logins
from app.services.people.third_parties import ThirdParties
from app.stores.registry.operators import OperatorRecord


def session_routes(
    logins: Logins, administration: Administration, third_parties: ThirdParties
) -> list[HTTPRouteHandler]:
    """What everybody who has a token may do with it."""

    @making("/v1/session", public())
    async def log_in(data: JSONBody[LogIn], request: ApiRequest) -> NewSession:
        """Log in: a token for each later request."""
        caller = Caller(request.client.host if request.client else "", request.headers.get("user-agent", ""))
        begun = await logins.log_in(data.name, data.password, caller)
        principal = begun.principal
        return NewSession(
            principal.name,
            begun.full_name,
            principal.role,
            sorted(principal.scopes),
            begun.expires_us,
            principal.must_change_password,
            begun.token,
        )

    @reading("/v1/session", needs(None, while_password_is_due=True), sync_to_thread=True)
    def session(request: ApiRequest) -> SessionInfo:
        """Who this token is, and until when."""
        user: Principal = request.user
        full_name = administration.own(user).full_name if user.operator_id is not None else ""
        expires_us = third_parties.expiry_of(user)
        return SessionInfo(user.name, full_name, user.role, sorted(user.scopes), expires_us, user.must_change_password)

    @removing("/v1/session", needs(None, while_password_is_due=True), sync_to_thread=True)
    def log_out(request: ApiRequest) -> None:
        """Log out: the token is refused from now on."""
        logins.log_out(request.user)

    @removing("/v1/sessions", needs(None, while_password_is_due=True), sync_to_thread=True)
    def log_out_everywhere(request: ApiRequest) -> None:
        """Log out everywhere: end every session of one's own."""
        logins.log_out_everywhere(request.user)

    @reading("/v1/me", needs(None, while_password_is_due=True), sync_to_thread=True)
    def account(request: ApiRequest) -> Response[Account]:
        """One's own account; its ETag is what an edit names."""
        return _account(administration.own(request.user))

    @editing("/v1/me", needs(None), sync_to_thread=True)
    def edit_account(data: JSONBody[AccountEdit], request: ApiRequest, if_match: IfMatch = None) -> Response[Account]:
        """Change one's own full name."""
        return _account(administration.rename(request.user, data.full_name, version_of(if_match)))

    @putting("/v1/me/password", needs(None, while_password_is_due=True), status_code=204)
    async def change_password(data: JSONBody[PasswordChange], request: ApiRequest) -> None:
        """Change one's own password: the old one is asked for, other sessions end."""
        await logins.change_password(request.user, data.old, data.new)

    return [log_in, session, log_out, log_out_everywhere, account, edit_account, change_password]


def _account(operator: OperatorRecord) -> Response[Account]:
    shape = Account(operator.name, operator.full_name, operator.role, operator.password_us, operator.created_us)
    return Response(shape, headers={"ETag": etag(operator.version)})
