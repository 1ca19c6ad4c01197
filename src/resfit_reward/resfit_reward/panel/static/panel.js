// The page's own script: presses, sound, theme, cameras, and the watch over the connection.
// No library, no network but this server.
"use strict";
(() => {
  const KEYS = { s: "SUCCESS", f: "FAILURE", a: "ABORT", u: "UNDO", p: "PAUSE", r: "GO", q: "STOP", " ": "ESTOP" };
  const SLOW = window.resfitSlow || 1;  // tests on a busy machine are given more time than a person needs
  const SENT_WITHIN_MS = 1000 * SLOW, CONFIRM_MS = 3000 * SLOW, SHOWN_MS = { bad: 6000 * SLOW, other: 3000 * SLOW };
  const STALE_MS = 3500, PICTURE_MS = 200, NO_PICTURE_MS = 1000;
  const memory = {
    get: (name) => { try { return localStorage.getItem("resfit." + name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem("resfit." + name, value); } catch { /* private window */ } },
  };
  // `ahead`: the server's clock less this page's [s], from the beat that was least under way.
  const now = { beat: null, ahead: null, heardAt: performance.now(), answer: null, estop: "ready" };
  const byId = (id) => document.getElementById(id);
  const every = (selector, act) => document.querySelectorAll(selector).forEach(act);

  // --- confirmation: one colour, one sound ------------------------------------------------------

  let audio = null;
  function wakeSound() {
    if (!audio && window.AudioContext) audio = new AudioContext();
    if (audio && audio.state === "suspended") audio.resume();
  }
  function sound(tone) {
    if (!audio || memory.get("sound") === "off") return;
    const notes = { ok: [660, 990], warn: [440, 440], bad: [180, 150], calm: [520] }[tone] || [520];
    notes.forEach((pitch, i) => {
      const at = audio.currentTime + 0.11 * i, voice = audio.createOscillator(), volume = audio.createGain();
      voice.type = tone === "bad" ? "square" : "sine";
      voice.frequency.value = pitch;
      volume.gain.setValueAtTime(0.18, at);
      volume.gain.exponentialRampToValueAtTime(0.001, at + 0.16);
      voice.connect(volume).connect(audio.destination);
      voice.start(at);
      voice.stop(at + 0.17);
    });
  }
  let answerTimer = 0;
  function say(tone, text) {
    const box = byId("answer");
    if (!box || !text) return;
    box.className = "shown " + tone;
    box.textContent = text;
    clearTimeout(answerTimer);
    answerTimer = setTimeout(() => { box.className = ""; }, SHOWN_MS[tone] || SHOWN_MS.other);
    sound(tone);
  }

  // --- presses ----------------------------------------------------------------------------------

  async function post(button) {
    const stop = new AbortController(), timer = setTimeout(() => stop.abort(), SENT_WITHIN_MS);
    try {
      // The moment of the press on the server's clock: a press that hung on its way is dropped there.
      const at = now.ahead === null ? "" : "?at=" + (now.ahead + performance.now() / 1000).toFixed(2);
      const answer = await fetch("/api/press/" + button + at, { method: "POST", signal: stop.signal, keepalive: true });
      return answer.ok;
    } catch { return false; } finally { clearTimeout(timer); }
  }
  let stopping = false;
  async function press(button) {
    wakeSound();
    every(`[data-press="${button}"]`, (b) => {
      b.classList.add("sent");
      setTimeout(() => b.classList.remove("sent"), 250);
    });
    if (button === "REARM") stopping = false;
    if (button !== "ESTOP") {
      if (!await post(button)) say("bad", `NOT SENT: ${button}. No connection to the panel`);
      return;
    }
    if (stopping) return;
    stopping = true;  // until it got through, whatever the connection does meanwhile
    while (stopping && !await post(button)) {
      say("bad", "E-STOP NOT SENT, trying again: use the robot's own stop");
      await new Promise((go) => setTimeout(go, 300));
    }
    stopping = false;
  }
  function pressed(element) {
    const armed = element.dataset.armed && performance.now() < Number(element.dataset.armed);
    if (element.classList.contains("confirm") && !armed) {
      element.dataset.armed = performance.now() + CONFIRM_MS;
      element.classList.add("armed");
      setTimeout(() => { element.classList.remove("armed"); delete element.dataset.armed; }, CONFIRM_MS);
      return;
    }
    element.classList.remove("armed");
    delete element.dataset.armed;
    press(element.dataset.press);
  }
  // The moment a finger comes down is the moment of the press: `click` waits until it is lifted.
  document.addEventListener("pointerdown", (event) => {
    const element = event.target.closest("[data-press]");
    if (element && event.isPrimary && event.button === 0) pressed(element);
  });
  document.addEventListener("click", (event) => {
    const tool = event.target.closest("[data-tool]");
    if (tool) { wakeSound(); toggle(tool.dataset.tool); return; }
    const element = event.target.closest("[data-press]");
    if (element && event.detail === 0) pressed(element);  // Enter on a focused button
  });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = KEYS[event.key.toLowerCase()];
    if (!button) return;
    event.preventDefault();
    const element = document.querySelector(`[data-press="${button}"]`);
    if (element) pressed(element);
  });

  // --- dark, light, sound -----------------------------------------------------------------------

  function dress() {
    const wish = memory.get("theme");
    const dark = wish ? wish === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    every('[data-tool="sound"]', (b) => b.classList.toggle("off", memory.get("sound") === "off"));
  }
  function toggle(tool) {
    if (tool === "theme") memory.set("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    else memory.set("sound", memory.get("sound") === "off" ? "on" : "off");
    dress();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dress);

  // --- what the server says ---------------------------------------------------------------------

  function heed() {
    const element = byId("now");
    if (!element) return;
    const said = JSON.parse(element.dataset.now);
    if (said.beat !== now.beat) {
      now.beat = said.beat;
      now.heardAt = performance.now();
      now.ahead = Math.max(now.ahead ?? -Infinity, said.beat - now.heardAt / 1000);
    }
    document.body.dataset.estop = said.estop;
    document.body.dataset.phase = said.phase;
    every("[data-press]", (b) => b.classList.toggle("lit", said.lit.includes(b.dataset.press)));
    const [number, tone, text] = said.answer;
    if (now.answer !== null && number !== now.answer) say(tone, text);
    now.answer = number;
    showCameras(said.cameras);
  }
  setInterval(() => {
    const stale = performance.now() - now.heardAt > STALE_MS;
    document.body.classList.toggle("stale", stale);
  }, 250);

  // --- cameras: the next picture is asked for when the last one is there; none while hidden ----------

  function showCameras(names) {
    const place = byId("cameras");
    if (!place || place.dataset.names === names.join()) return;
    place.dataset.names = names.join();
    place.replaceChildren(...names.map((name) => {
      const figure = document.createElement("figure"), image = document.createElement("img"),
        title = document.createElement("figcaption");
      title.textContent = name.replaceAll("_", " ");
      image.alt = title.textContent;
      figure.dataset.camera = name;
      figure.append(image, title);
      watch(name, image);
      return figure;
    }));
  }
  async function watch(name, image) {
    let after = "";
    while (true) {
      let wait = NO_PICTURE_MS;
      if (!document.hidden) {
        try {
          const answer = await fetch(`/api/camera/${encodeURIComponent(name)}.jpg?after=${after}`);
          if (answer.status === 200) {
            const old = image.src;
            after = answer.headers.get("X-Number");
            image.src = URL.createObjectURL(await answer.blob());
            if (old) URL.revokeObjectURL(old);
          }
          wait = answer.ok ? PICTURE_MS : NO_PICTURE_MS;
        } catch { /* the next try is soon enough */ }
      }
      await new Promise((go) => setTimeout(go, wait));
      if (!image.isConnected) return;
    }
  }

  function begin() {
    dress();
    const line = document.createElement("div");
    line.id = "stale";
    line.textContent = "No connection to the panel: what you see is old. The robot's own stop still works.";
    document.body.append(line);
    new MutationObserver(heed).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-now"] });
    heed();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin();
})();
