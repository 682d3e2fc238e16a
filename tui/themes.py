"""The themes of our own: a quiet dark and a quiet light one, one accent each."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="docqa-dark",
    primary="#7aa2f7",
    secondary="#bb9af7",
    accent="#ff9e64",
    foreground="#d5d9e6",
    background="#16171f",
    surface="#1c1e28",
    panel="#242735",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
    dark=True,
)
LIGHT = Theme(
    name="docqa-light",
    primary="#2e5aac",
    secondary="#7847bd",
    accent="#b15c00",
    foreground="#23252f",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#e8e5dd",
    success="#33691e",
    warning="#8a5a00",
    error="#b3261e",
    dark=False,
)
THEMES = (DARK, LIGHT)
