"""The model: choose a GGUF, see what fits before loading, load it in the background."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Input, OptionList, Select, Static
from textual.widgets.option_list import Option

from docqa.config import Config, ModelConfig
from docqa.errors import DocqaError
from docqa.wiring import PlanRow, available_models, plan_rows
from tui.dialogs import PathInput, PathSuggester
from tui.key_hints import KeyHints
from tui.plain import assembled, cell, file_name, plain

KV_TYPES = ("f16", "q8_0", "q4_0", "bf16")
ROPES = ("auto", "none", "linear", "ntk", "yarn")
_COLUMNS = ("context", "KV", "memory", "of it KV", "fits", "read it all ≈", "tokens/s ≈")


class ModelChosen(Message):
    """The user wants a model loaded, or the same one anew."""

    def __init__(self, model: ModelConfig) -> None:
        self.model = model
        super().__init__()


class ModelsListed(Message):
    """The models that have a name were looked up."""

    def __init__(self, models: list[dict[str, object]]) -> None:
        self.models = models
        super().__init__()


class PlanMade(Message):
    """What fits of a model; `error` is a sentence where it cannot be used."""

    def __init__(self, name: str, summary: str, rows: list[PlanRow], error: str | None) -> None:
        self.name, self.summary, self.rows, self.error = name, summary, rows, error
        super().__init__()


class ModelScreen(Screen[None]):
    """Models on the left, the plan on the right, settings below. Enter in the table takes a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("ctrl+l,f5", "load", "Load", priority=True),
    ]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self.name_chosen = config.model.path
        self._rows: list[PlanRow] = []
        self._names: list[str] = []

    def compose(self) -> ComposeResult:
        """Lay out list, plan and settings."""
        model = self._config.model
        with Horizontal():
            with Vertical(id="model-list"):
                yield Static(plain("Models", "bold"), markup=False)
                yield OptionList(id="models", markup=False)
                yield PathInput(placeholder="a .gguf file", suggester=PathSuggester(), id="gguf")
            with Vertical():
                yield Static(plain("reading the model's header …"), markup=False, id="plan-summary")
                yield DataTable(id="plan", cursor_type="row", zebra_stripes=True)
                with Horizontal(id="model-settings"):
                    yield Input(
                        str(model.context_length or ""),
                        placeholder="context: as trained",
                        type="integer",
                        id="context",
                    )
                    yield _select(KV_TYPES, model.kv_type_k, "kv-k")
                    yield _select(KV_TYPES, model.kv_type_v, "kv-v")
                    yield _select(ROPES, model.rope, "rope")
                hint = "context · KV keys · KV values · rope      Ctrl+L loads, in the background"
                yield Static(plain(hint, "$text-muted"), markup=False)
        yield KeyHints()

    def on_mount(self) -> None:
        """Look the models up in a thread."""
        if not self.query("#plan"):
            return  # left before it was laid out
        table = self.query_one("#plan", DataTable)
        table.add_columns(*[Text(name) for name in _COLUMNS])
        self._list_models()
        self._make_plan(self.name_chosen)

    @work(thread=True, group="models", exit_on_error=False)
    def _list_models(self) -> None:
        self.post_message(ModelsListed(available_models(self._config)))

    @work(thread=True, group="plan", exclusive=True, exit_on_error=False)
    def _make_plan(self, name: str) -> None:
        try:
            summary, rows = plan_rows(name)
            self.post_message(PlanMade(name, summary, rows, None))
        except DocqaError as error:
            self.post_message(PlanMade(name, "", [], str(error)))

    @on(ModelsListed)
    def _show_models(self, message: ModelsListed) -> None:
        options = []
        for model in message.models:
            if model["source"] == "adapter":
                continue
            name, problem = str(model["name"]), model["problem"]
            size = f"{int(str(model['n_bytes'])) / 2**20:,.0f} MB  {model['quantisation']}"
            text = assembled(
                ("● " if name == self.name_chosen else "  ", "$text-success"),
                (name, "bold"),
                (f"\n  {problem or size}", "$text-error" if problem else "$text-muted"),
            )
            options.append(Option(text, id=None))
        self._names = [str(m["name"]) for m in message.models if m["source"] != "adapter"]
        self.query_one("#models", OptionList).set_options(options)

    @on(OptionList.OptionSelected, "#models")
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self._plan_for(self._names[event.option_index])

    @on(Input.Submitted, "#gguf")
    def _choose_file(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self._plan_for(event.value.strip())

    def _plan_for(self, name: str) -> None:
        self.name_chosen = name
        self.query_one("#plan-summary", Static).update(plain(f"reading {file_name(name)} …"))
        self._make_plan(name)

    @on(PlanMade)
    def _show_plan(self, message: PlanMade) -> None:
        if message.name != self.name_chosen:
            return
        style = "$text-error" if message.error else ""
        self.query_one("#plan-summary", Static).update(
            plain(message.error or message.summary, style)
        )
        table = self.query_one("#plan", DataTable)
        table.clear()
        self._rows = message.rows
        for row in message.rows:
            table.add_row(*_cells(row))

    @on(DataTable.RowSelected, "#plan")
    def _take_row(self, event: DataTable.RowSelected) -> None:
        row = self._rows[event.cursor_row]
        self.query_one("#context", Input).value = str(row.context_length)
        for name, value in (("#kv-k", row.kv_type_k), ("#kv-v", row.kv_type_v)):
            if value in KV_TYPES:
                self.query_one(name, Select).value = value

    def action_load(self) -> None:
        """Load the model with these settings."""
        context = self.query_one("#context", Input).value.strip()
        model = replace(
            self._config.model,
            path=self.name_chosen,
            context_length=int(context) if context.isdigit() else 0,
            kv_type_k=str(self.query_one("#kv-k", Select).value),
            kv_type_v=str(self.query_one("#kv-v", Select).value),
            rope=str(self.query_one("#rope", Select).value),
        )
        self.app.pop_screen()
        self.app.post_message(ModelChosen(model))


def _select(values: tuple[str, ...], value: str, id: str) -> Select[str]:
    known = values if value in values else (*values, value)
    return Select([(v, v) for v in known], value=value, allow_blank=False, id=id)


def _cells(row: PlanRow) -> list[Text]:
    style = "" if row.fits else "dim"
    return [
        cell(f"{row.context_length:,}", style),
        cell(f"{row.kv_type_k}/{row.kv_type_v}", style),
        cell(f"{row.total_bytes / 2**20:,.0f} MB", style),
        cell(f"{row.kv_bytes / 2**20:,.0f} MB", style),
        cell("yes" if row.fits else "no", style),
        cell(f"{row.prefill_s:,.0f} s", style),
        cell(f"{row.decode_tokens_s:,.1f}", style),
    ]
