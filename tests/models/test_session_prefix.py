"""The prompt of a session under real chat templates: what stood in it stays, token for token."""

from __future__ import annotations

import pytest

from docqa import prompts
from docqa.history import prefix_tokens
from docqa.prompts import Frame, PastTurn, StateNote
from models.chat_template import BUILT_IN, ChatTemplate, segments
from tests.docqa.make import evidence
from tests.fakes import ScriptedEngine
from tests.models.tiny import FAMILIES

# As Qwen-3 has it: an empty thought before the answer to come, none before those of history.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
)
TEMPLATES = {
    **{f"built-in {name}": source for name, source in BUILT_IN.items()},
    **{f"tiny {name}": family.template for name, family in FAMILIES.items()},
    "thinking": THINKING,
}
PINNED = (evidence("Pinned words.", marker=1), evidence("  More of them. ", marker=2))
NOTE = StateNote("What is it?", ("And why?",), (evidence("A fact.", marker=3),))


class TemplateEngine(ScriptedEngine):
    """Writes conversations with a real template; each segment is one token."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._template = ChatTemplate(source, "plain", "<s>", "</s>")
        self._known: dict[tuple[str, bool], int] = {}

    def chat(self, messages):
        return segments(self._template.skeleton([role for role, _ in messages]), messages)

    def tokenize(self, parts):
        known = self._known
        return [[known.setdefault((p.text, p.is_control), len(known))] for p in parts]


def prompt_tokens(engine: TemplateEngine, frame: Frame, query: str, sources) -> list[int]:
    messages = prompts.messages(
        query, sources, frame.history(), pinned=frame.pinned, above=(1,), note=frame.note
    )
    return [token for ids in engine.tokenize(engine.chat(messages)) for token in ids]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("pinned", [(), PINNED])
def test_every_prompt_begins_with_all_that_stood_before(name, pinned):
    engine = TemplateEngine(TEMPLATES[name])
    past: tuple[PastTurn, ...] = ()
    before: list[int] = []
    for n in range(4):
        note = NOTE if n == 2 else None
        frame = Frame(pinned, past, note, 10 * n + 4)
        prefix = prefix_tokens(engine, frame)
        assert prefix[: len(before)] == before
        sources = (evidence(f" source {n}\n", marker=10 * n + 4),)
        prompt = prompt_tokens(engine, frame, f"question {n}? ", sources)
        assert prompt[: len(prefix)] == prefix and len(prompt) > len(prefix)
        past = (*past, PastTurn(f"question {n}? ", sources, f" answer {n} [4] ", (1,), note))
        before = prefix_tokens(engine, Frame(pinned, past))
        n_shared = len(prompt) - (name == "thinking")  # there the answer's head is another
        assert before[: n_shared - 1] == prompt[: n_shared - 1]
        assert len(before) > n_shared
