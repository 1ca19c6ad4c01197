"""A view as pieces of HTML, one per section of the page; every text from outside is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from resfit_reward.panel import chart
from resfit_reward.panel.history import WINDOW, Curve, Episode, Rate
from resfit_reward.panel.view import Tile, View

_CLASS = {"success": "ok", "failure": "bad", "timeout": "warn", "aborted": "calm"}
_WORD = {"timeout": "time-out"}
_ICON = {"bad": "!", "warn": "!", "ok": "✓", "calm": "·"}  # in every font


def sections(view: View, beat: float) -> dict[str, str]:
    """Return the content of every section by its name; `beat` is the server's clock [s].

    The page sends a section only where its text changed.
    """
    return {
        "now": now(view, beat),
        "head": head(view),
        "banners": banners(view),
        "state": state(view),
        "curve": curve(view.curve),
        "learner": tiles(view.learner, "No learner heard of yet."),
        "control": tiles(view.control, "No driver heard of yet."),
        "episodes": episodes(view),
        "messages": messages(view),
    }


def now(view: View, beat: float) -> str:
    """Return what the page's script needs: which buttons are lit, e-stop, answer, cameras."""
    data = {
        "beat": beat,
        "lit": sorted(view.lit),
        "phase": view.phase,
        "estop": view.estop,
        "answer": [view.answer.number, view.answer.tone, view.answer.text],
        "cameras": list(view.cameras),
        "ghost": [list(g) for g in view.ghosts],
    }
    return f'<span id="now" data-now="{escape(json.dumps(data))}"></span>'


def head(view: View) -> str:
    """Return name of the run and one dot per node."""
    dots = "".join(
        f'<span class="node {tone}" title="{escape(name)}"><i></i>{escape(name)}</span>'
        for name, tone in view.nodes
    )
    return (
        f'<span class="run">{escape(view.run) or "no run"}</span><span class="nodes">{dots}</span>'
    )


def banners(view: View) -> str:
    """Return one line per trouble."""
    return "".join(
        f'<div class="banner {b.tone}" role="alert"><b>{_ICON[b.tone]}</b>{escape(b.text)}</div>'
        for b in view.banners
    )


def state(view: View) -> str:
    """Return phase, episode and the reason of the last change."""
    bar = ""
    if view.progress >= 0:
        bar = f'<div class="progress"><i style="width:{view.progress:.1%}"></i></div>'
    return (
        f'<div class="phase {view.tone}">{escape(view.phase)}</div>'
        f'<div class="what"><h1>{escape(view.headline)}</h1>'
        f'<p class="reason">{escape(view.reason) or "waiting for the graph"}</p></div>{bar}'
    )


def curve(it: Curve) -> str:
    """Return the plot and its numbers in words."""
    facts = [_fact("recent", f"last {it.recent.trials or WINDOW}", it.recent)]
    facts.append(_fact("base", "base alone", it.base))
    for name, rate in zip(("evaluation, base", "evaluation, residual"), it.evaluated, strict=True):
        if rate.trials:
            facts.append(_fact("tested", name, rate))
    return f'<div class="facts">{"".join(facts)}</div>{chart.svg(it)}'


def tiles(items: Iterable[Tile], empty: str) -> str:
    """Return numbers with their names."""
    cells = "".join(
        f'<div class="tile {t.tone}"><span>{escape(t.label)}</span><b>{escape(t.value)}</b>'
        f"<small>{escape(t.note)}</small></div>"
        for t in items
    )
    return f'<div class="tiles">{cells}</div>' if cells else f'<p class="empty">{empty}</p>'


def episodes(view: View) -> str:
    """Return the newest episodes, each with why it ended."""
    rows = "".join(
        f'<tr><td>{e.number}</td><td><span class="verdict {_CLASS[e.ended_by]}">'
        f"{_WORD.get(e.ended_by, e.ended_by)}</span>{_revised(e.revision)}</td>"
        f"<td>{escape(e.place) or e.mode}{' · base' if _base_alone(e) else ''}</td>"
        f"<td>{e.steps}</td><td>{escape(e.reason)}</td></tr>"
        for e in view.episodes
    )
    if not rows:
        return '<p class="empty">No episode has ended yet.</p>'
    names = "".join(f"<th>{n}</th>" for n in ("#", "ended by", "mode", "steps", "reason"))
    return f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"


def messages(view: View) -> str:
    """Return the nodes' warnings, newest first."""
    lines = "".join(
        f'<li class="{m.tone}"><b>{escape(m.node)}</b> {escape(m.text)}'
        f"{f' <i>× {m.count}</i>' if m.count > 1 else ''}</li>"
        for m in view.messages
    )
    return f'<ul class="log">{lines}</ul>' if lines else '<p class="empty">No warnings.</p>'


def _base_alone(e: Episode) -> bool:
    return e.base_alone and e.mode != "warmup"


def _revised(revision: int) -> str:
    return f' <i title="revision {revision}">corrected</i>' if revision else ""


def _fact(kind: str, name: str, rate: Rate) -> str:
    if not rate.trials:
        return f'<div class="fact {kind}"><span>{name}</span><b>–</b><small>none yet</small></div>'
    low, high = rate.interval
    return (
        f'<div class="fact {kind}"><span>{name}</span><b>{rate.value:.0%}</b>'
        f"<small>{low:.0%}–{high:.0%} · {rate.successes} of {rate.trials}</small></div>"
    )
