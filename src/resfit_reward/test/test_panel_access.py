"""Who may use the panel; and the gate in front of it, without a socket."""

import asyncio

import pytest

from resfit_reward.panel.access import COOKIE, Gate, Request, Rules, is_local

TOKEN = "the-token"


def why_not(client="127.0.0.1", query="", **headers):
    fields = {"host": "localhost:8080", **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "client": (client, 1),
        "headers": [(k.encode(), v.encode()) for k, v in fields.items()],
        "query_string": query.encode(),
    }
    return Rules(TOKEN).why_not(Request.of(scope))


@pytest.mark.parametrize(
    ("name", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("localhost", True), ("::1", True),
     ("192.168.1.4", False), ("0.0.0.0", False), ("evil.example", False)],
)  # fmt: skip
def test_what_is_this_machine(name, local):
    assert is_local(name) is local


def test_this_machine_needs_no_token():
    assert why_not() == ""
    assert why_not(origin="http://localhost:8080") == ""


def test_other_machines_need_the_token():
    assert "token" in why_not("192.168.1.4", host="robot:8080")
    assert "token" in why_not("192.168.1.4", host="robot:8080", query="token=wrong")
    assert why_not("192.168.1.4", host="robot:8080", query=f"token={TOKEN}") == ""
    assert why_not("192.168.1.4", host="robot:8080", cookie=f"{COOKIE}={TOKEN}") == ""
    assert why_not("192.168.1.4", host="robot:8080", x_panel_token=TOKEN) == ""


def test_a_foreign_page_presses_no_button_even_with_the_cookie():
    assert "evil.example" in why_not(origin="http://evil.example")
    assert why_not(origin="http://evil.example", cookie=f"{COOKIE}={TOKEN}")


def test_a_name_made_to_point_here_is_refused():
    """DNS rebinding: the page's own origin then equals the host it asks."""
    assert "evil.example" in why_not(host="evil.example:8080", origin="http://evil.example:8080")


def ask(kind="http", **fields):
    sent = []

    async def inner(scope, receive, send):
        sent.append("through")

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "client": ("10.0.0.9", 1), "headers": [(b"host", b"robot")], **fields}
    asyncio.run(Gate(inner, Rules(TOKEN))(scope, None, send))
    return sent


def test_gate_refuses_pages_and_sockets():
    assert ask()[0]["status"] == 403
    assert ask("websocket")[0]["type"] == "websocket.close"


def test_token_in_the_address_moves_into_a_cookie():
    answer = ask(query_string=f"token={TOKEN}".encode())[0]
    headers = dict(answer["headers"])
    assert (answer["status"], headers[b"location"]) == (303, b"/")
    assert b"HttpOnly" in headers[b"set-cookie"]
    cookie = headers[b"set-cookie"].split(b";")[0]
    assert ask(headers=[(b"host", b"robot"), (b"cookie", cookie)]) == ["through"]
