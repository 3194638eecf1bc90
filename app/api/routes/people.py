"""Operators and API tokens, for administrators."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.api.access import ApiRequest, needs
from app.api.lists import listing_of, page_of
from app.api.routing import editing, making, reading, removing
from app.api.versions import IfMatch, etag, version_of
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.people import (
    ApiTokenInfo,
    ApiTokenSecret,
    NewApiToken,
    NewOperator,
    OneTimePassword,
    OperatorEdit,
    OperatorInfo,
)
from app.services.people.administration import Administration
from app.services.people.third_parties import ThirdParties
from app.stores.registry import api_tokens, operators
from app.stores.registry.api_tokens import ApiTokenRecord
from app.stores.registry.operators import OperatorChange, OperatorRecord

Name = Annotated[
    str,
    PathParameter(max_length=64, description="name of an operator, in any case", examples=[Example(value="claire")]),
]
TokenName = Annotated[
    str,
    PathParameter(max_length=50, description="name of an API token, in any case", examples=[Example(value="billing")]),
]


def people_routes(administration: Administration, third_parties: ThirdParties) -> list[HTTPRouteHandler]:
    """Who may log in, and what third parties may."""
    return [*_operator_routes(administration), *_token_routes(third_parties)]


def _operator_routes(administration: Administration) -> list[HTTPRouteHandler]:
    @reading(
        "/v1/operators",
        needs(Scope.PEOPLE),
        dependencies={"listing": Provide(listing_of(operators.COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def list_operators(listing: NamedDependency[Listing]) -> Page[OperatorInfo]:
        """Operators, those who are disabled too."""
        return page_of(administration.page(listing), _operator)

    @making("/v1/operators", needs(Scope.PEOPLE), sync_to_thread=True)
    def create_operator(data: JSONBody[NewOperator], request: ApiRequest) -> Response[OneTimePassword]:
        """Make an operator; the answer has a one-time password, shown this once."""
        made, password = administration.create(request.user, data.name, data.role, data.full_name)
        return Response(OneTimePassword(_operator(made), password), headers={"ETag": etag(made.version)})

    @reading("/v1/operators/{name:str}", needs(Scope.PEOPLE), sync_to_thread=True)
    def operator(name: Name) -> Response[OperatorInfo]:
        """One operator; the ETag is what an edit names."""
        return _answer(administration.get(name))

    @editing("/v1/operators/{name:str}", needs(Scope.PEOPLE), sync_to_thread=True)
    def edit_operator(
        name: Name, data: JSONBody[OperatorEdit], request: ApiRequest, if_match: IfMatch = None
    ) -> Response[OperatorInfo]:
        """Change role or full name, disable or enable; in force at once for open sessions."""
        change = OperatorChange(data.full_name, data.role, data.disabled)
        return _answer(administration.edit(request.user, name, change, version_of(if_match)))

    @making("/v1/operators/{name:str}/one-time-password", needs(Scope.PEOPLE), sync_to_thread=True)
    def reset_password(name: Name, request: ApiRequest) -> OneTimePassword:
        """Replace a lost password by a one-time password; ends the operator's sessions and their lock."""
        operator, password = administration.reset_password(request.user, name)
        return OneTimePassword(_operator(operator), password)

    @removing("/v1/operators/{name:str}/sessions", needs(Scope.PEOPLE), sync_to_thread=True)
    def end_sessions(name: Name, request: ApiRequest) -> None:
        """Log an operator out everywhere."""
        administration.end_sessions(request.user, name)

    return [list_operators, create_operator, operator, edit_operator, reset_password, end_sessions]


def _token_routes(third_parties: ThirdParties) -> list[HTTPRouteHandler]:
    @reading(
        "/v1/api-tokens",
        needs(Scope.PEOPLE),
        dependencies={"listing": Provide(listing_of(api_tokens.COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def list_tokens(listing: NamedDependency[Listing]) -> Page[ApiTokenInfo]:
        """API tokens, revoked ones too."""
        return page_of(third_parties.page(listing), _token)

    @making("/v1/api-tokens", needs(Scope.PEOPLE), sync_to_thread=True)
    def create_token(data: JSONBody[NewApiToken], request: ApiRequest) -> ApiTokenSecret:
        """Make an API token; it is shown this once."""
        made, secret = third_parties.create(request.user, data.name, data.scopes, data.expires_us)
        return ApiTokenSecret(_token(made), secret)

    @reading("/v1/api-tokens/{name:str}", needs(Scope.PEOPLE), sync_to_thread=True)
    def token(name: TokenName) -> ApiTokenInfo:
        """One API token."""
        return _token(third_parties.get(name))

    @removing("/v1/api-tokens/{name:str}", needs(Scope.PEOPLE), sync_to_thread=True)
    def revoke_token(name: TokenName, request: ApiRequest) -> None:
        """Revoke an API token: it is refused from now on, and its name is not given again."""
        third_parties.revoke(request.user, name)

    return [list_tokens, create_token, token, revoke_token]


def _answer(operator: OperatorRecord) -> Response[OperatorInfo]:
    return Response(_operator(operator), headers={"ETag": etag(operator.version)})


def _operator(record: OperatorRecord) -> OperatorInfo:
    return OperatorInfo(
        record.name,
        record.full_name,
        record.role,
        record.must_change_password,
        record.password_us,
        record.created_us,
        record.disabled_us,
        record.failed_logins,
        record.locked_until_us,
    )


def _token(record: ApiTokenRecord) -> ApiTokenInfo:
    return ApiTokenInfo(
        record.name,
        sorted(record.scopes),
        record.created_by,
        record.created_us,
        record.expires_us,
        record.used_us,
        record.revoked_us,
    )
