"""What a browser shows: what the model is, its card, and a form that draws samples. Nothing comes from elsewhere."""

from __future__ import annotations

import inspect
import json
import secrets
from typing import Any

from markupsafe import Markup

from gen.errors import RecipeError
from gen.registry import entry
from gen.serve.schema import TASKS
from pipelines.reporting.page import inline, render
from pipelines.serving.sources import Hosted


def page(hosted: Hosted) -> tuple[str, str]:
    """The page, and the policy under which a browser may run it: its own script, and nothing else."""
    nonce = secrets.token_urlsafe(16)
    model, tasks = hosted.answerer.model, hosted.answerer.tasks
    channels, height, width = model.spec.shape
    facts = {
        "name": hosted.name,
        "tasks": list(tasks),
        "shape": [height, width, channels],
        "classes": model.spec.num_classes if model.conditional else 0,
    }
    content = render(
        "serving.html.j2",
        nonce=nonce,
        style=inline("report.css") + inline("serving.css"),
        script=inline("serving.js"),
        facts=Markup(json.dumps(facts).replace("<", "\\u003c")),
        hosted=hosted,
        title=_title(hosted.meta),
        about=_about(hosted),
        tasks={name: TASKS[name] for name in tasks},
        classes=facts["classes"],
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data: blob:; "
        "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return content, policy


def _title(meta: Any) -> tuple[str, str]:
    """Name and one line of the model, from the head of its chapter."""
    try:
        text = inspect.getdoc(inspect.getmodule(entry(meta["model"]).cls)) or ""
    except RecipeError:  # it was loaded, so this cannot be; a page is no place to fail
        text = ""
    name, _, summary = text.partition("\n")[0].partition(": ")
    return name or str(meta["model"]), summary


def _about(hosted: Hosted) -> dict[str, str]:
    """Facts on the model, by name."""
    spec, meta = hosted.answerer.model.spec, hosted.meta
    channels, height, width = spec.shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    about = {"Images": f"{height} × {width}, {colours}", "Space": str(spec.space)}
    if hosted.answerer.model.conditional:
        about["Classes"] = str(spec.num_classes)
    if recipe := meta.get("recipe"):
        about |= {"Recipe": recipe["name"], "Data": recipe["dataset"]}
    if images := meta.get("images"):
        about["Images seen"] = f"{images:,}"
    about["Parameters"] = f"{sum(p.numel() for p in hosted.answerer.model.parameters()):,}"
    about["Weights"] = f"sha256 {meta['files']['model.safetensors']['sha256'][:12]}…"
    return about
