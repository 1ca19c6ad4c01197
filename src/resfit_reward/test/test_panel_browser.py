"""The panel's page in a real Chromium: `make test-panel`. Its graph is `panel_desk.py`."""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

if not os.environ.get("RESFIT_BROWSER_TESTS"):
    pytest.skip("browser tests run by `make test-panel`", allow_module_level=True)
pytest.importorskip("nicegui", reason="NiceGUI is not installed: run 'make setup'")
api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

expect = api.expect
WAIT_MS = 60_000
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
DESKTOP, TABLET, PHONE = (1360, 900), (820, 1180), (390, 844)


class Desk:
    """The made-up run as a process."""

    def __init__(self, port=0, host="127.0.0.1"):
        script = Path(__file__).parent / "panel_desk.py"
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(port), host],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.next("url ")
        self.port = int(self.url.split("/")[2].rsplit(":")[-1])

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def next(self, start="press "):
        line = self.lines.get(timeout=60)
        assert line.startswith(start), line
        return line.removeprefix(start)

    def silent(self):
        time.sleep(1.0)
        return self.lines.empty()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


@pytest.fixture(scope="module")
def chromium():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=list(FLAGS)
        )
        yield browser
        browser.close()


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.close()


@pytest.fixture
def visit(chromium):
    contexts = []

    def go(url, size=DESKTOP, **options):
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.add_init_script("window.resfitSlow = 8")
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.asked = []
        page.on("request", lambda r: page.asked.append(r.url))
        page.goto(url, timeout=2 * WAIT_MS)
        alive(page)
        return page

    yield go
    for context in contexts:
        context.close()


def alive(page):
    page.wait_for_selector("#now", state="attached", timeout=2 * WAIT_MS)
    page.wait_for_selector("body[data-phase]:not(.stale)", timeout=2 * WAIT_MS)
    expect(page.locator(".phase")).not_to_be_empty(timeout=WAIT_MS)


def button(page, name):
    return page.locator(f'[data-press="{name}"]')


def says(page, text):
    expect(page.locator("#answer.shown")).to_contain_text(text, timeout=WAIT_MS)


def test_every_button_is_heard_and_asks_no_other_host(desk, visit):
    page = visit(desk.url)
    for name, heard, phase in (
        ("PAUSE", "PAUSE", "PAUSED"), ("PAUSE", "RESUME", "RUNNING"),
        ("SUCCESS", "SUCCESS", "ENDED"), ("UNDO", "UNDO", "ENDED"),
        ("GO", "RESET_DONE", "RUNNING"), ("FAILURE", "FAILURE", "ENDED"),
        ("GO", "RESET_DONE", "RUNNING"), ("ABORT", "ABORT", "ENDED"),
    ):  # fmt: skip
        button(page, name).click()
        assert desk.next() == heard
        expect(page.locator(".phase")).to_have_text(phase, timeout=WAIT_MS)
    assert [u for u in page.asked if desk.url not in u] == []


def test_what_ends_the_run_needs_two_presses(desk, visit):
    page = visit(desk.url)
    button(page, "STOP").click()
    expect(button(page, "STOP")).to_have_class("press confirm lit armed", timeout=WAIT_MS)
    assert desk.silent()
    button(page, "STOP").click()
    assert desk.next() == "STOP"
    expect(page.locator(".phase")).to_have_text("FINISHED", timeout=WAIT_MS)


def test_keys_press_the_buttons_once_however_long_they_are_held(desk, visit):
    page = visit(desk.url)
    page.keyboard.down("s")
    page.keyboard.down("s")
    page.keyboard.up("s")
    assert desk.next() == "SUCCESS"
    page.keyboard.press("U")
    assert desk.next() == "UNDO"
    page.keyboard.press("Control+f")
    page.keyboard.press(" ")
    assert desk.next() == "ESTOP"
    assert desk.silent()


def test_a_press_is_confirmed_in_words_and_colour(desk, visit):
    page = visit(desk.url)
    button(page, "SUCCESS").click()
    says(page, "Episode 41: success, step 84")
    expect(page.locator("#answer")).to_have_class("shown ok", timeout=WAIT_MS)
    expect(page.locator(".phase")).to_have_text("ENDED", timeout=WAIT_MS)
    expect(page.locator(".part.episodes tbody tr").first).to_contain_text("success by panel")
    button(page, "ABORT").click()
    says(page, "ABORT from panel ignored: no episode is running")
    desk.tell("quiet")
    button(page, "UNDO").click()
    says(page, "UNDO: no answer from the episode manager")


def test_node_that_is_gone_and_comes_back(desk, visit):
    page = visit(desk.url)
    desk.tell("gone learner")
    expect(page.locator(".banner.bad")).to_contain_text("learner is gone", timeout=WAIT_MS)
    desk.tell("back learner")
    expect(page.locator(".banner")).to_have_count(0, timeout=WAIT_MS)
    desk.tell("warn <b>slow</b> disk")
    expect(page.locator(".log li")).to_have_text("recorder <b>slow</b> disk", timeout=WAIT_MS)


def test_estop_stays_latched_when_its_page_is_closed(desk, visit):
    page = visit(desk.url)
    button(page, "ESTOP").click()
    assert desk.next() == "ESTOP"
    page.close()
    time.sleep(1.0)
    other = visit(desk.url, PHONE)
    expect(other.locator(".banner.bad")).to_contain_text("the driver holds", timeout=WAIT_MS)
    button(other, "REARM").click()
    assert desk.silent()
    button(other, "REARM").click()
    assert desk.next() == "REARM"
    expect(button(other, "REARM")).to_be_hidden(timeout=WAIT_MS)


def test_driver_that_does_not_confirm_the_estop(desk, visit):
    page = visit(desk.url)
    desk.tell("quiet")
    button(page, "ESTOP").click()
    expect(page.locator(".banner.bad")).to_contain_text("NOT confirmed", timeout=WAIT_MS)


def test_two_browsers_see_the_same(desk, visit):
    one, two = visit(desk.url), visit(desk.url, TABLET, has_touch=True)
    button(two, "SUCCESS").tap()
    assert desk.next() == "SUCCESS"
    for page in (one, two):
        says(page, "Episode 41: success")
        expect(page.locator(".phase")).to_have_text("ENDED", timeout=WAIT_MS)
    assert desk.silent()  # a tap is one press, not two


def test_hung_server_is_seen_and_a_press_meanwhile_never_arrives(desk, visit):
    """A verdict that waited in a socket must not fall on a later episode."""
    page = visit(desk.url)
    desk.process.send_signal(signal.SIGSTOP)
    button(page, "SUCCESS").click()
    says(page, "NOT SENT: SUCCESS")
    page.wait_for_selector("body.stale")
    desk.process.send_signal(signal.SIGCONT)
    alive(page)
    assert desk.silent()
    button(page, "FAILURE").click()
    assert desk.next() == "FAILURE"


def test_estop_pressed_without_connection_is_sent_when_it_is_back(desk, visit):
    page = visit(desk.url)
    desk.process.send_signal(signal.SIGSTOP)
    button(page, "ESTOP").click()
    says(page, "E-STOP NOT SENT")
    desk.process.send_signal(signal.SIGCONT)
    assert desk.next() == "ESTOP"


def test_page_comes_back_with_a_restarted_server(visit):
    first = Desk()
    page = visit(first.url)
    first.close()
    page.wait_for_selector("body.stale")
    second = Desk(first.port)
    try:
        assert second.port == first.port
        alive(page)
        button(page, "SUCCESS").click()
        assert second.next() == "SUCCESS"
    finally:
        second.close()


@pytest.mark.parametrize("size", [PHONE, TABLET, (360, 640)], ids=str)
def test_touch_screens(desk, visit, size):
    page = visit(desk.url, size, has_touch=True)
    width, height = size
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("SUCCESS", "FAILURE", "UNDO", "GO", "PAUSE", "ABORT", "STOP", "ESTOP"):
        box = button(page, name).bounding_box()
        assert box["height"] >= 60, name  # a finger in a glove
        assert box["width"] >= 100, name
    box = button(page, "ESTOP").bounding_box()
    assert box["y"] + box["height"] <= height  # always in sight, however far one has scrolled
    button(page, "SUCCESS").tap()
    assert desk.next() == "SUCCESS"


def test_live_picture_and_look(desk, visit):
    page = visit(desk.url, color_scheme="light")
    image = page.locator("#cameras img")
    expect(image).to_have_attribute("src", re.compile("^blob:"), timeout=WAIT_MS)
    first = image.get_attribute("src")
    page.wait_for_function("old => document.querySelector('#cameras img').src != old", arg=first)
    html = page.locator("html")
    expect(html).to_have_attribute("data-theme", "light")
    page.locator('[data-tool="theme"]').click()
    expect(html).to_have_attribute("data-theme", "dark")
    page.reload()
    alive(page)
    expect(html).to_have_attribute("data-theme", "dark")


def test_other_machines_need_the_token(visit):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but its own")
    desk = Desk(host="0.0.0.0")
    try:
        token = desk.url.split("token=")[1]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://{address}:{desk.port}/", timeout=20)
        page = visit(f"http://{address}:{desk.port}/?token={token}")
        assert "token" not in page.url
        button(page, "SUCCESS").click()
        assert desk.next() == "SUCCESS"
    finally:
        desk.close()


def test_the_round_s_first_scene_lies_over_the_camera_until_the_next_one_is_accepted(desk, visit):
    page = visit(desk.url)
    ghost = page.locator("figure img.ghost")
    desk.tell("blind A READY")
    expect(page.locator("h1")).to_contain_text("round 1, A", timeout=WAIT_MS)
    expect(ghost).to_have_count(0)
    desk.tell("blind A RUNNING")
    expect(page.locator("body")).to_have_attribute("data-phase", "RUNNING", timeout=WAIT_MS)
    desk.tell("blind B READY")
    expect(ghost).to_have_count(1, timeout=WAIT_MS)
    page.wait_for_function(
        "document.querySelector('img.ghost').naturalWidth === 320", timeout=WAIT_MS
    )
    expect(page.locator(".match")).to_contain_text("match", timeout=WAIT_MS)
    page.locator("#ghost-tools input").fill("0.8")
    expect(ghost).to_have_css("opacity", "0.8")
    button(page, "GO").click()
    assert desk.next() == "RESET_DONE"
    expect(ghost).to_have_count(0, timeout=WAIT_MS)
    expect(page.locator("#ghost-tools")).to_have_count(0)
