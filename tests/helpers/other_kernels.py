"""A machine that takes a set of kernels of its own, which computes as `lax` does."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from jaxviz.ascent import climb
from jaxviz.bench import executable
from jaxviz.network.rules import Settings, kernels
from jaxviz.render import batches

OTHER = "other"
REASON = "this CPU has no instructions for it"


def take_other_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`auto` means OTHER from now on; the list that is returned is told every set that something is computed with."""
    used: list[str] = []
    compiled = climb.compiled

    def as_lax(make: Any, *arguments: Any, kernels: str) -> Any:
        used.append(kernels)
        return make(*arguments)

    for module, name in ((batches, "Settings"), (executable, "RuleSettings")):
        monkeypatch.setattr(module, name, partial(as_lax, Settings))
    monkeypatch.setattr(climb, "compiled", lambda platform, name: as_lax(compiled, platform, kernels=name))
    monkeypatch.setattr(kernels, "automatic", lambda _: OTHER)
    monkeypatch.setattr(kernels, "why_not", lambda *_: None)
    return used


def lose_other_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` means `lax`, and OTHER cannot run, as on a machine of another kind."""
    monkeypatch.setattr(kernels, "automatic", lambda _: kernels.LAX)
    monkeypatch.setattr(kernels, "why_not", lambda name, _: None if name == kernels.LAX else REASON)
