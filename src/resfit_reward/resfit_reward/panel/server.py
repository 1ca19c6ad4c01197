"""The web page on a thread of its own: nothing in here is waited for by the node."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from resfit_reward.panel import access, page, render
from resfit_reward.panel.cameras import Picture
from resfit_reward.panel.view import View

STATIC = Path(__file__).parent / "static"
_START_S, _STOP_S = 30.0, 2.0
_PORTS_TRIED = 10
_BEATS = 4  # per second: how often a page hears the server's clock, and sees that it lives
TOO_LATE_S = 1.5  # a page gives up after 1 s; what it knows of this clock is up to 0.5 s behind


class PanelError(ValueError):
    """The page cannot be shown; the text names value and fix."""


class Desk(Protocol):
    """Who stands behind the page: called on the page's thread, and must return at once."""

    def press(self, button: str) -> None:
        """Take a press of a button.

        Raises:
            ValueError: There is no such button.
        """

    def picture(self, camera: str) -> Picture | None:
        """Return the newest picture; None: there is none yet.

        Raises:
            KeyError: There is no such camera.
        """

    def ghost(self, camera: str) -> bytes | None:
        """Return a blind round's first picture as PNG; None: there is none."""


class PanelServer:
    """Serves the page and pushes every view to all who look at it."""

    def __init__(self, desk: Desk, host: str, port: int, token: str = "") -> None:
        """Take the address; nothing is opened yet.

        Args:
            desk: Takes the presses.
            host: Address to listen on; anything but this machine asks for the token.
            port: Port; if it is taken, the next free one of ten.
            token: For other machines; empty: a new one.
        """
        self._desk, self._host, self._port = desk, host, port
        self._token = token or access.new_token()
        self._pages: set[page.Page] = set()
        self._view, self._loop = View(), None
        self._pushing = False
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._failure = ""

    def start(self) -> str:
        """Open the port and serve; return the address to open.

        Raises:
            PanelError: No port is free, or the server does not come up.
        """
        listener = self._listen()
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            access.Gate(self._app(), access.Rules(self._token)),
            log_level="error",
            access_log=False,
            loop="asyncio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(listener,), name="panel", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise PanelError(f"the panel's page did not come up: {self._failure or 'silence'}")
            time.sleep(0.02)
        if access.is_local(self._host):
            return f"http://localhost:{port}"
        return f"http://{_outer_name(self._host)}:{port}/?token={self._token}"

    @property
    def alive(self) -> bool:
        """Whether the page is served."""
        return self._thread is not None and self._thread.is_alive()

    def show(self, view: View) -> None:
        """Push a view to all pages; returns at once, from any thread."""
        self._view = view
        loop = self._loop
        # A push under way takes the newest view anyhow: on a busy machine they must not queue up.
        if loop is not None and not loop.is_closed() and not self._pushing:
            self._pushing = True
            loop.call_soon_threadsafe(self._push)

    def stop(self) -> None:
        """Close the page; waits for at most two seconds."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        problem = ""
        for port in range(self._port, self._port + (_PORTS_TRIED if self._port else 1)):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self._host, port))
            except (OSError, OverflowError) as error:
                listener.close()
                problem = str(error)
                continue
            return listener
        raise PanelError(
            f"the panel cannot listen on {self._host}, ports {self._port} to "
            f"{self._port + _PORTS_TRIED - 1}: {problem}; "
            "give another panel_port:= or panel_host:="
        )

    def _serve(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._run(listener))
        except Exception as error:  # the thread's end is seen by `alive`
            self._failure = f"{type(error).__name__}: {error}"
        finally:
            listener.close()

    async def _run(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[listener])

    def _push(self) -> None:
        self._pushing = False
        if not self._pages:
            return
        # Put into words once, however many look.
        sections = self._sections()
        for open_page in tuple(self._pages):
            open_page.show(sections)

    def _app(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.post("/api/press/{button}")
        async def press(button: str, at: float | None = None) -> Response:
            # What waited in a socket while the connection or this process hung was given up by
            # its page long ago. The e-stop is never too late.
            late_s = 0.0 if at is None else time.monotonic() - at
            if late_s > TOO_LATE_S and button != "ESTOP":
                why = f"{button} came {late_s:.1f} s after the press: dropped"
                return JSONResponse({"taken": False, "why": why}, 409)
            try:
                self._desk.press(button)
            except ValueError as error:
                return JSONResponse({"taken": False, "why": str(error)}, 404)
            return JSONResponse({"taken": True})

        @app.get("/api/camera/{name}.jpg")
        async def camera(name: str, request: Request) -> Response:
            try:
                picture = self._desk.picture(name)
            except KeyError:
                return Response(status_code=404)
            if picture is None or request.query_params.get("after") == str(picture.number):
                return Response(status_code=204)
            headers = {"Cache-Control": "no-store", "X-Number": str(picture.number)}
            return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

        @app.get("/api/ghost/{name}.png")
        async def ghost(name: str) -> Response:
            picture = self._desk.ghost(name)
            if picture is None:
                return Response(status_code=404)
            headers = {"Cache-Control": "no-store"}
            return Response(picture, media_type="image/png", headers=headers)

        app.mount("/panel", StaticFiles(directory=STATIC), name="panel")
        page.mount(app, self._opened, self._pages.discard)
        return app

    def _opened(self, opened: page.Page) -> None:
        self._pages.add(opened)
        opened.show(self._sections())

    def _sections(self) -> dict[str, str]:
        return render.sections(self._view, round(time.monotonic() * _BEATS) / _BEATS)


def _outer_name(host: str) -> str:
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    return socket.gethostname()
