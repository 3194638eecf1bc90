"""MQTT credentials of sources and services, for administrators; a module's is at `/v1/modules`."""

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
from app.domain.credentials import CredentialKind
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.credentials import (
    AccountKind,
    MqttCredential,
    MqttCredentialEdit,
    MqttCredentialSecret,
    NewMqttCredential,
)
from app.services.mqtt_credentials import MqttCredentials
from app.stores.registry import account_edits
from app.stores.registry.account_edits import AccountChange, AccountFile

Name = Annotated[
    str, PathParameter(max_length=128, description="user name at the broker", examples=[Example(value="shelly")])
]


def credential_routes(credentials: MqttCredentials) -> list[HTTPRouteHandler]:
    """Which programs and gateways may connect to the broker, and to which topics."""
    allowed = needs(Scope.PEOPLE)

    @reading(
        "/v1/credentials",
        allowed,
        dependencies={"listing": Provide(listing_of(account_edits.COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def every(listing: NamedDependency[Listing]) -> Page[MqttCredential]:
        """Credentials of sources and services, blocked ones too."""
        return page_of(credentials.page(listing), _shape)

    @making("/v1/credentials", allowed, sync_to_thread=True)
    def create(data: JSONBody[NewMqttCredential], request: ApiRequest) -> Response[MqttCredentialSecret]:
        """Make a credential; its secret is shown this once."""
        made, secret = credentials.create(
            request.user,
            data.username,
            CredentialKind(data.kind),
            publish=data.publish,
            subscribe=data.subscribe,
            note=data.note,
        )
        return Response(MqttCredentialSecret(_shape(made), secret), headers={"ETag": etag(made.version)})

    @reading("/v1/credentials/{username:str}", allowed, sync_to_thread=True)
    def one(username: Name) -> Response[MqttCredential]:
        """One credential; the ETag is what an edit names."""
        return _answer(credentials.one(username))

    @editing("/v1/credentials/{username:str}", allowed, sync_to_thread=True)
    def edit(
        username: Name, data: JSONBody[MqttCredentialEdit], request: ApiRequest, if_match: IfMatch = None
    ) -> Response[MqttCredential]:
        """Change its topics or note, block it or let it in again; its open connections end within a moment."""
        change = AccountChange(data.publish, data.subscribe, data.note, data.blocked)
        return _answer(credentials.edit(request.user, username, version_of(if_match), change))

    @making("/v1/credentials/{username:str}/secret", allowed, sync_to_thread=True)
    def renew(username: Name, request: ApiRequest) -> MqttCredentialSecret:
        """A new secret in place of a lost one, shown this once; the old one ends."""
        renewed, secret = credentials.renew(request.user, username)
        return MqttCredentialSecret(_shape(renewed), secret)

    @removing("/v1/credentials/{username:str}", allowed, sync_to_thread=True)
    def remove(username: Name, request: ApiRequest) -> None:
        """Remove a credential; its connections end within a moment."""
        credentials.remove(request.user, username)

    return [every, create, one, edit, renew, remove]


def _answer(account: AccountFile) -> Response[MqttCredential]:
    return Response(_shape(account), headers={"ETag": etag(account.version)})


def _shape(account: AccountFile) -> MqttCredential:
    return MqttCredential(
        account.username,
        AccountKind(account.kind.value),
        list(account.publish),
        list(account.subscribe),
        account.note,
        account.blocked_us,
        account.created_us,
        account.used_us,
    )
