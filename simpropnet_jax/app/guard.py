"""What the page's server refuses: other hosts, other pages, visitors without the token, and too many bytes."""

import contextlib
import hmac
import http.cookies
import ipaddress
import logging
import secrets
import urllib.parse
from collections.abc import Collection
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from simpropnet_jax.app.storage import Storage

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
ELSEWHERE = ('/file=http', '/proxy=')  # Gradio would fetch these addresses for whoever asks
READING = ('GET', 'HEAD', 'OPTIONS')  # methods that change nothing
LOOPBACK = ('localhost', '127.0.0.1', '::1')
SELF_CHECK = '/gradio_api/startup-events'  # Gradio asks its own server for it, without the token
TOKEN = 'token'  # name of the part of the URL


class Refusal(NamedTuple):
    """An answer to a request that is not served."""

    status: int
    sentence: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token(host: str) -> str:
    """Return what the page's URL must hold: a random token, or '' for an address that only this machine can reach."""
    return '' if is_loopback(host) else secrets.token_urlsafe(24)


class Guard:
    """ASGI middleware around all of Gradio.

    Args:
      app: Gradio's.
      host: address that the server listens at.
      names: more names that the page goes by, e.g. of a proxy.
      token: what visitors must know, once in the URL and then in a cookie; '': nothing.
      storage: counts the bytes of uploads.
    """

    def __init__(self, app, host: str, names: Collection[str], token: str, storage: Storage):
        self.app = app
        self.names = frozenset(name.lower().rstrip('.') for name in names if name)
        self.hosts = {host.lower(), *LOOPBACK, *self.names}
        self.token = token
        self.storage = storage

    async def __call__(self, scope, receive, send):
        """Answer a request, or refuse it."""
        if scope['type'] not in ('http', 'websocket'):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            logger.info('refused: %s', refusal.sentence)
            await _answer(scope, send, refusal.status, refusal.sentence)
        elif self._brings_token(scope):
            await _answer(scope, send, 303, 'welcome', self._welcome(scope))
        else:
            await self._serve(scope, receive, send)

    def _refusal(self, scope, headers: Headers) -> Refusal | None:
        host = headers.get('host', '')
        if not self._is_ours(host, scope):
            return Refusal(421, 'this page does not go by that name: see --allow_host')
        if not self._same_page(headers, host):
            return Refusal(403, 'this page answers no other page')
        if any(part in scope['path'].lower() for part in ELSEWHERE):
            return Refusal(403, 'this page fetches nothing from elsewhere')
        known = not self.token or self._has_cookie(scope, headers) or self._brings_token(scope)
        if not known and scope['path'] != SELF_CHECK:
            return Refusal(401, 'open the address that the program printed, with its token')
        if scope['type'] == 'http' and scope['method'] not in READING:
            length = headers.get('content-length', '')
            least = int(length) if length.isdecimal() and len(length) < 20 else 1
            if least > self.storage.room(_visitor(scope)):
                return Refusal(413, 'there is no room for more pictures: try again in an hour')
        return None

    def _is_ours(self, host: str, scope) -> bool:
        """Whether a Host header names this server: no page of another name can lead a browser here (DNS rebinding)."""
        name = _hostname(host)
        answering = (scope.get('server') or ('',))[0]
        return bool(name) and (name in self.hosts or name == answering)

    def _same_page(self, headers: Headers, host: str) -> bool:
        """Whether a request comes from this page, from a link to it, or from no browser."""
        origin = headers.get('origin')
        if origin is not None:
            netloc = urllib.parse.urlsplit(origin).netloc.lower()
            return netloc == host.lower() or netloc in self.names
        site = headers.get('sec-fetch-site', 'none')
        link = headers.get('sec-fetch-mode') == 'navigate'
        return site in ('same-origin', 'none') or link

    def _brings_token(self, scope) -> bool:
        query = urllib.parse.parse_qs(scope.get('query_string', b'').decode('latin-1'))
        return bool(self.token) and _equal(query.get(TOKEN, [''])[0], self.token)

    def _has_cookie(self, scope, headers: Headers) -> bool:
        try:
            cookies = http.cookies.SimpleCookie(headers.get('cookie', ''))
        except http.cookies.CookieError:
            return False
        found = cookies.get(_cookie(scope))
        return found is not None and _equal(found.value, self.token)

    def _welcome(self, scope) -> list[tuple[bytes, bytes]]:
        """Headers that keep the token as a cookie and lead to the same address without it."""
        query = urllib.parse.parse_qsl(scope['query_string'].decode('latin-1'))
        rest = urllib.parse.urlencode([(name, value) for name, value in query if name != TOKEN])
        target = '/' + urllib.parse.quote(scope['path'].lstrip('/')) + (f'?{rest}' if rest else '')
        cookie = f'{_cookie(scope)}={self.token}; Path=/; HttpOnly; SameSite=Lax'
        return [(b'location', target.encode()), (b'set-cookie', cookie.encode())]

    async def _serve(self, scope, receive, send):
        visitor, started = _visitor(scope), False

        async def receive_counted():
            message = await receive()
            size = len(message.get('body', b'')) if message['type'] == 'http.request' else 0
            if size and scope['method'] not in READING and not self.storage.add(visitor, size):
                logger.info('refused: an upload for which there is no room')
                return {'type': 'http.disconnect'}
            return message

        async def send_with_policy(message):
            nonlocal started
            if message['type'] == 'http.response.start':
                started = True
                kept = [
                    (name, value)
                    for name, value in message['headers']
                    if not name.lower().startswith(b'access-control-')
                ]
                message['headers'] = [*kept, (b'content-security-policy', POLICY.encode())]
            await send(message)

        # A page that was closed in the middle of an upload is no error.
        with contextlib.suppress(ClientDisconnect):
            try:
                await self.app(scope, receive_counted, send_with_policy)
            except ClientDisconnect:
                raise
            except Exception as error:
                logger.debug('where it went wrong:', exc_info=True)
                logger.warning('a request failed (%s)', type(error).__name__)
                if not started:
                    await _answer(scope, send, 500, 'something went wrong')


def _hostname(netloc: str) -> str:
    """Return the name in HOST:PORT, in small letters; '' for what is none."""
    try:
        return (urllib.parse.urlsplit(f'//{netloc}').hostname or '').rstrip('.')
    except ValueError:
        return ''


def _cookie(scope) -> str:
    """Return the cookie's name: of this port, as browsers share cookies between the ports of a host."""
    return f'simpropnet_{(scope.get("server") or ("", 0))[1]}'


def _visitor(scope) -> str:
    return (scope.get('client') or ('',))[0]


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


async def _answer(scope, send, status: int, sentence: str, headers=()) -> None:
    """Send a short text; a WebSocket is closed."""
    if scope['type'] == 'websocket':
        await send({'type': 'websocket.close', 'code': 1008})
        return
    kind = (b'content-type', b'text/plain; charset=utf-8')
    start = {'type': 'http.response.start', 'status': status, 'headers': [kind, *headers]}
    await send(start)
    await send({'type': 'http.response.body', 'body': sentence.encode()})
