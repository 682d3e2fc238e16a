"""Chat templates: a GGUF's own Jinja source, rendered so that no content can pass for markup.

The template never sees content. Each message is rendered as a unique sentinel, and the result is
cut at the sentinels: what the template wrote becomes control text, in which special tokens are
parsed, and the contents go between as they are. A template that trims its contents is noticed and
obeyed; one that refuses a system role gets the system text at the top of the first user message;
one that fails altogether is replaced by the built-in format of its family.

A template is code from an untrusted file: it runs in Jinja's immutable sandbox and, since a sandbox
bounds no loops, only in the engine's process, whose caller holds a clock (`models.host`).
"""

from __future__ import annotations

import datetime
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from docqa.errors import ModelRefused
from docqa.types import Segment

MAX_PRODUCT = 1_000_000  # characters, items or digits that one `*` or `**` in a template may make

BUILT_IN: dict[str, str] = {
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{{ '<|im_start|>assistant\n' }}"
    ),
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% elif m.role == 'user' %}"
        "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{{ '<start_of_turn>' + "
        "('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + "
        "'<end_of_turn>\n' }}{% endfor %}{{ '<start_of_turn>model\n' }}"
    ),
    "phi": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{{ '<|assistant|>\n' }}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}"
        "{% endfor %}{{ '<|assistant|>\n' }}"
    ),
    "plain": (
        "{% for m in messages %}{{ m.role | capitalize + ': ' + m.content + '\n\n' }}{% endfor %}"
        "{{ 'Assistant:' }}"
    ),
}


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a rendered conversation: template text, or the content of message `index`."""

    text: str = ""
    index: int = -1
    is_control: bool = True


class Skeleton(msgspec.Struct, frozen=True, array_like=True):
    """A conversation without its contents."""

    parts: tuple[Part, ...]
    trims: bool  # the template strips blanks around contents
    family: str  # "gguf", or the built-in format that took its place


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The chat format of a model: its own source, and what takes over where that fails."""

    source: str | None
    fallback: str  # a key of BUILT_IN
    bos: str = ""
    eos: str = ""

    def skeleton(self, roles: Sequence[str]) -> Skeleton:
        """Return the conversation of `roles` (system, user, assistant …), generation prompt last.

        Raises:
            ModelRefused: not even the built-in format can say it (an empty conversation).
        """
        attempts: list[tuple[str, str]] = []
        if self.source:
            attempts.append(("gguf", self.source))
        attempts += [(name, BUILT_IN[name]) for name in (self.fallback, "plain")]
        reasons = []
        for family, source in attempts:
            for fold in (False, True) if roles and roles[0] == "system" else (False,):
                try:
                    return self._render(family, source, roles, fold)
                except Exception as error:  # any: it is the file's code; the next attempt is ours
                    reasons.append(f"{family}: {error}")
        raise ModelRefused(f"no chat format can write this conversation: {'; '.join(reasons)}")

    def _render(self, family: str, source: str, roles: Sequence[str], fold: bool) -> Skeleton:
        render = _compiled(source, self.bos, self.eos)
        shown = list(roles[1:]) if fold else list(roles)
        if fold and (not shown or shown[0] != "user"):
            raise ValueError("no user message to take the system text")
        nonce = secrets.token_hex(8)
        marks = [f"zq{nonce}n{i}zq" for i in range(len(shown))]
        text = _rendered(render, shown, marks)
        padded = _rendered(render, shown, [f" {mark}\t" for mark in marks])
        trims = len(shown) > 0 and f" {marks[-1]}\t" not in padded
        return Skeleton(_cut(text, marks, fold), trims, family)


def segments(
    skeleton: Skeleton, messages: Sequence[tuple[str, Sequence[Segment]]]
) -> list[Segment]:
    """Return the conversation: template text as control segments, contents as they were given.

    A blank at the end of template text (`[INST] `) goes to the content after it: tokenizers join it
    with the word that follows, and segments are tokenized one by one.
    """
    found: list[Segment] = []
    for part in skeleton.parts:
        if part.index < 0:
            found.append(Segment(part.text, part.is_control))
            continue
        content = [s for s in messages[part.index][1] if s.text]
        content = _stripped(content) if skeleton.trims else content
        if content and found and found[-1].is_control and found[-1].text.endswith(" "):
            before, first = found.pop(), content[0]
            if before.text != " ":
                found.append(Segment(before.text[:-1], True, before.layer))
            content = [Segment(" " + first.text, first.is_control, first.layer), *content[1:]]
        found += content
    return found


def family_of(has_token: Callable[[str], bool], architecture: str) -> str:
    """Return the built-in format that fits a vocabulary."""
    if has_token("<|im_start|>"):
        return "chatml"
    if has_token("<|start_header_id|>"):
        return "llama-3"
    if has_token("<start_of_turn>"):
        return "gemma"
    if has_token("<|user|>") and has_token("<|assistant|>"):
        return "phi" if has_token("<|end|>") else "zephyr"
    if has_token("[INST]") or "mistral" in architecture:
        return "mistral"
    return "plain"


def _cut(text: str, marks: Sequence[str], fold: bool) -> tuple[Part, ...]:
    """Cut rendered text at the sentinels. Each must be there once, in order."""
    parts: list[Part] = []
    at = 0
    for i, mark in enumerate(marks):
        found = text.find(mark, at)
        if found < 0 or text.count(mark) != 1:
            raise ValueError("the template drops, repeats or reorders messages")
        if text[at:found]:
            parts.append(Part(text[at:found]))
        if fold and i == 0:
            parts += [Part(index=0), Part("\n\n", is_control=False)]
        parts.append(Part(index=i + fold))
        at = found + len(mark)
    if text[at:]:
        parts.append(Part(text[at:]))
    return tuple(parts)


def _stripped(content: list[Segment]) -> list[Segment]:
    if not content:
        return content
    first, last = content[0], content[-1]
    content[0] = Segment(first.text.lstrip(), first.is_control, first.layer)
    last = content[-1]
    content[-1] = Segment(last.text.rstrip(), last.is_control, last.layer)
    return [s for s in content if s.text]


Render = Callable[[list[dict[str, object]]], str]


def _rendered(render: Render, roles: Sequence[str], contents: Sequence[str]) -> str:
    """Render, with contents as text or, for templates that want it, as a list of parts."""
    plain: list[dict[str, object]] = [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True)
    ]
    try:
        text = render(plain)
        if all(content.strip() in text for content in contents):
            return text
    except TypeError:
        pass
    return render([{**m, "content": [{"type": "text", "text": m["content"]}]} for m in plain])


def _compiled(source: str, bos: str, eos: str) -> Render:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Jinja's sandbox, with products bounded."""

        intercepted_binops = frozenset(["*", "**"])

        def call_binop(
            self, context: jinja2.runtime.Context, operator: str, left: object, right: object
        ) -> object:
            if operator == "**" or _product(left, right) > MAX_PRODUCT:
                raise ValueError(f"a template may not compute {operator} of this size")
            return super().call_binop(context, operator, left, right)

    def refuse(message: str) -> str:
        raise jinja2.TemplateError(message)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    # Marks of the assistant's words for training; nothing to us.
    source = re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", source)
    template = environment.from_string(source)

    def render(messages: list[dict[str, object]]) -> str:
        known = {
            "messages": messages,
            "add_generation_prompt": True,
            "bos_token": bos,
            "eos_token": eos,
            "enable_thinking": False,  # answers are to be short; Qwen-3 and others ask
            "raise_exception": refuse,
        }
        try:
            return template.render(known)
        except jinja2.UndefinedError:
            # Not offered at first: a date in the prompt would void the cache every day.
            today = datetime.datetime.now(tz=datetime.UTC).strftime
            return template.render({**known, "strftime_now": today, "tools": None})

    return render


def _product(left: object, right: object) -> int:
    """Return the size of `left * right`; a sequence counts its items."""
    sizes = [
        len(side) if isinstance(side, str | bytes | list | tuple) else abs(side)
        for side in (left, right)
        if isinstance(side, str | bytes | list | tuple | int)
    ]
    return int(sizes[0] * sizes[1]) if len(sizes) == 2 else 0
