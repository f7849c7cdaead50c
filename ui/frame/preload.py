"""What draws charts is on its way while the app starts.

Streamlit's browser side asks for Plotly, some five megabytes, once the first chart has come, after everything else.
Every page has a chart, so the answer that holds the app names it in a header, and the browser fetches it meanwhile (RFC
8288; `modulepreload` of the HTML standard).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PreloadCharts:
    """Middleware that adds the header to answers of HTML."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        link = find_link()
        if scope["type"] != "http" or not link:
            return await self.app(scope, receive, send)

        async def send_with_link(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_html(message):
                message = {**message, "headers": [*message["headers"], (b"link", link)]}
            await send(message)

        return await self.app(scope, receive, send_with_link)


@cache
def find_link() -> bytes:
    """The header's value, which names what draws charts in the installed Streamlit; empty where it is not found."""
    found = list((Path(streamlit.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js"))
    return f"<./static/js/{found[0].name}>; rel=modulepreload".encode() if len(found) == 1 else b""


def _is_html(message: Message) -> bool:
    return any(name.lower() == b"content-type" and b"text/html" in value for name, value in message["headers"])
