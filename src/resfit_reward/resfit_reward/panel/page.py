"""The page itself, on NiceGUI: sections that are sent again where their text changed.

Presses do not go through NiceGUI's socket: it keeps what is sent while the connection is down and
delivers it seconds later, which must never happen to a verdict. The page's script posts them and
says at once when one did not get through (`static/panel.js`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI
from nicegui import ui

_RECONNECT_S = 5.0
_VERDICTS = (
    ("SUCCESS", "Success", "s", "verdict success"),
    ("FAILURE", "Failure", "f", "verdict failure"),
)
_STEERING = (
    ("UNDO", "Undo verdict", "u", ""),
    ("GO", "Scene ready / start", "r", "go"),
    ("PAUSE", "Pause / resume", "p", ""),
    ("ABORT", "Abort episode", "a", ""),
    ("STOP", "End the run", "q", "confirm"),
)


def mount(app: FastAPI, opened: Callable[[Page], None], closed: Callable[[Page], None]) -> None:
    """Put the page at `/` of the app; tell who opens and who closes it."""

    @ui.page("/", title="ResFiT panel")
    def panel() -> None:
        made = Page()
        opened(made)
        ui.context.client.on_delete(lambda: closed(made))

    ui.run_with(
        app,
        title="ResFiT panel",
        favicon="🦾",
        tailwind=False,
        reconnect_timeout=_RECONNECT_S,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )


class Page:
    """One browser's page."""

    def __init__(self) -> None:
        """Build it; `show` fills it."""
        ui.add_head_html('<link rel="stylesheet" href="/panel/panel.css">')
        for script in ("panel", "ghost"):
            ui.add_head_html(f'<script src="/panel/{script}.js" defer></script>')
        self._sections: dict[str, ui.html] = {}
        self._sent: dict[str, str] = {}
        self._section("now")
        with _box("header", "top"):
            _fixed('<span class="brand">ResFiT</span>')
            self._section("head")
            _fixed(
                '<span class="tools"><button data-tool="sound" title="sound">♪</button>'
                '<button data-tool="theme" title="dark or light">◐</button></span>'
            )
        self._section("banners")
        with _box("div", "desk"):
            with _box("section", "operate"):
                self._card("state", "")
                _fixed(f'<div class="verdicts">{_buttons(_VERDICTS)}</div>')
                _fixed(f'<div class="steering">{_buttons(_STEERING)}</div>')
                _fixed('<div id="cameras"></div>')
                self._card("episodes", "Episodes")
            with _box("section", "watch"):
                self._card("curve", "Success")
                self._card("learner", "Learner")
                self._card("control", "Control")
                self._card("messages", "Warnings")
        _fixed(
            '<footer><button class="press estop" data-press="ESTOP">E-STOP'
            "<kbd>space</kbd></button>"
            '<button class="press rearm confirm" data-press="REARM">Re-arm</button></footer>'
            '<div id="answer" role="status"></div>'
        )

    def show(self, sections: Mapping[str, str]) -> None:
        """Send the sections that changed."""
        for name, content in sections.items():
            if self._sent.get(name) != content:
                self._sent[name] = content
                self._sections[name].set_content(content)

    def _section(self, name: str) -> None:
        self._sections[name] = ui.html("", sanitize=False).classes(f"part {name}")

    def _card(self, name: str, title: str) -> None:
        with _box("article", f"card card-{name}"):
            if title:
                _fixed(f"<h2>{title}</h2>")
            self._section(name)


def _box(tag: str, classes: str = "") -> ui.element:
    return ui.element(tag).classes(classes)


def _fixed(content: str) -> None:
    ui.html(content, sanitize=False).classes("part")


def _buttons(buttons: tuple[tuple[str, str, str, str], ...]) -> str:
    return "".join(
        f'<button class="press {kind}" data-press="{name}">{label}<kbd>{key}</kbd></button>'
        for name, label, key, kind in buttons
    )
