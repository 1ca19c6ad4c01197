// Blind evaluation: the round's first picture over each camera, until the scene is accepted.
"use strict";
(() => {
  const KEY = "resfit.ghost";
  let opacity = 0.5;
  try { opacity = Number(localStorage.getItem(KEY) ?? 0.5); } catch { /* private window */ }

  function tools() {
    const box = document.createElement("div"), slider = document.createElement("input"), label = document.createElement("label");
    box.id = "ghost-tools";
    slider.type = "range"; slider.min = 0; slider.max = 1; slider.step = 0.05; slider.value = opacity;
    slider.setAttribute("aria-label", "ghost of the round's first scene");
    slider.addEventListener("input", () => {
      opacity = Number(slider.value);
      document.body.style.setProperty("--ghost", opacity);
      try { localStorage.setItem(KEY, opacity); } catch { /* private window */ }
    });
    label.textContent = "first scene of this round";
    label.append(slider);
    box.append(label);
    return box;
  }
  function look() {
    const now = document.getElementById("now"), place = document.getElementById("cameras");
    if (!now || !place) return;
    const ghosts = new Map((JSON.parse(now.dataset.now).ghost || []).map((g) => [g[0], g]));
    const bar = document.getElementById("ghost-tools");
    if (ghosts.size && !bar) { document.body.style.setProperty("--ghost", opacity); place.after(tools()); }
    if (!ghosts.size && bar) bar.remove();
    for (const figure of place.querySelectorAll("figure[data-camera]")) {
      const said = ghosts.get(figure.dataset.camera);
      let image = figure.querySelector("img.ghost"), match = figure.querySelector(".match");
      if (!said) { image?.remove(); match?.remove(); continue; }
      if (!image) {
        image = document.createElement("img");
        image.className = "ghost";
        image.alt = "first scene of this round";
        match = document.createElement("span");
        match.className = "match";
        figure.append(image, match);
      }
      if (image.dataset.number !== String(said[1])) {
        image.dataset.number = said[1];
        image.src = `/api/ghost/${encodeURIComponent(said[0])}.png?round=${said[1]}`;
      }
      match.textContent = said[2] < 0 ? "" : `match ${said[2].toFixed(2)}`;
    }
  }
  setInterval(look, 250);
})();
