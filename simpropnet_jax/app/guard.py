"""What the page's server refuses, and what it tells the browser to refuse: anything that is elsewhere."""

import contextlib

from starlette.requests import ClientDisconnect

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
ELSEWHERE = ('/file=http', '/proxy=')  # Gradio would fetch these addresses for whoever asks


class Guard:
    """ASGI middleware around Gradio's routes: neither this server nor the page in the browser asks another host."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Answer a request; refuse one that would ask another host."""
        if scope['type'] == 'http' and any(part in scope['path'].lower() for part in ELSEWHERE):
            await send(
                {
                    'type': 'http.response.start',
                    'status': 403,
                    'headers': [(b'content-type', b'text/plain')],
                }
            )
            await send(
                {'type': 'http.response.body', 'body': b'this page fetches nothing from elsewhere'}
            )
            return

        async def send_with_policy(message):
            if message['type'] == 'http.response.start':
                message['headers'] = [
                    *message['headers'],
                    (b'content-security-policy', POLICY.encode()),
                ]
            await send(message)

        with contextlib.suppress(
            ClientDisconnect
        ):  # a page that was closed in the middle of an upload is no error
            await self.app(scope, receive, send_with_policy)
