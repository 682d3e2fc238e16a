"""The engine from the caller's side: a process that may die without taking the caller along.

`open_engine(config)` checks the model file, starts the process and returns at once; the first
request waits until the model is loaded. A crash (an abort inside llama.cpp, out of memory) is an
`EngineDied` with the last lines that the process wrote; the next request starts a fresh process.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from docqa import errors
from docqa.config import ModelConfig
from docqa.errors import EngineDied, ModelError
from docqa.protocols import Piece, Prefill, Sampling, Stop
from docqa.types import EngineInfo, Segment
from models import wire
from models.catalog import Adapter, choose_adapter, resolve
from models.chat_template import Skeleton, segments
from models.kv_quality import KvComparison
from models.load_plan import Log, load_settings, quiet
from models.mailboxes import Box, Mailboxes
from models.model_file import ModelFile, read_model
from models.private_host import PrivateProcess, Process
from models.settings import LoadSettings
from models.tokenizer import PROBE, BpeTokenizer, build_tokenizer, with_bos

STOP_FIELDS = wire.Stopped.__struct_fields__[1:]
POLL_S = 0.05  # how often a cancel event is looked at
TEMPLATE_S = 5.0  # a chat template that takes longer is taken for one that never ends

Kind = TypeVar("Kind", bound=wire.Message)


@dataclass(slots=True)
class _Request:
    """A request on its way."""

    number: int
    box: Box
    process: Process
    mail: Mailboxes
    is_done: bool = False
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True
        with contextlib.suppress(OSError, ValueError):
            self.process.channel.send(wire.Cancel(self.number))


class HostEngine:
    """`docqa.protocols.Engine` over an engine process. Threads may share one; they take turns."""

    def __init__(
        self,
        settings: LoadSettings,
        model: ModelFile,
        start: Callable[[], Process] = PrivateProcess,
        log: Log | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        """Start the process and have it load the model; does not wait for it."""
        self.settings, self.model, self.adapter = settings, model, adapter
        self._start, self._log = start, log or quiet
        self._uses_template = True
        self._tokenizer: BpeTokenizer | None = None
        self._asks_process = False  # for tokens
        self._skeletons: dict[tuple[str, ...], Skeleton] = {}
        self._lock = threading.Lock()  # of the fields below, never held while a reply is awaited
        self._process: Process | None = None
        self._mail: Mailboxes | None = None
        self._opened: wire.Opened | None = None
        self._is_closed = False
        self.kv_reason = ""  # why the last save_kv or load_kv returned 0
        self._launch()

    # -- docqa.protocols.Engine -------------------------------------------------------------------

    @property
    def info(self) -> EngineInfo:
        """What is loaded, with the settings in effect."""
        return EngineInfo(
            name="llama.cpp" if self.settings.engine == "llama" else self.settings.engine,
            model=self.model.path.stem,
            context_length=self._ready().context_length,
            kv_type_k=self.settings.kv_type_k,
            kv_type_v=self.settings.kv_type_v,
            adapter=self.adapter.path.stem if self.adapter else None,
            refusal_threshold=self.adapter.refusal_threshold if self.adapter else None,
        )

    def tokenize(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Return the ids of each segment; see the protocol."""
        opened = self._ready()
        if self._tokenizer is None and not self._asks_process:
            self._choose_tokenizer(opened)
        if self._tokenizer is not None:
            return self._tokenizer.encode_segments(segments)
        texts = [(s.text, s.is_control) for s in segments]
        reply = self._ask(lambda request: wire.Tokenize(request, texts), wire.Tokens)
        found = [array("i", ids).tolist() for ids in reply.ids]
        return with_bos(found, opened.bos if opened.bos >= 0 else None)

    def chat(self, messages: Sequence[tuple[str, Sequence[Segment]]]) -> list[Segment]:
        """Return the conversation in the model's chat format, generation prompt last."""
        roles = tuple(role for role, _ in messages)
        if roles not in self._skeletons:
            self._skeletons[roles] = self._render(roles)
        return segments(self._skeletons[roles], messages)

    def log_probs(self, tokens: Sequence[int], texts: Sequence[str]) -> list[float]:
        """Return log P that the model goes on with each text; see the protocol."""
        ids = self.tokenize([Segment("", True), *(Segment(text, False) for text in texts)])[1:]
        if not all(ids):
            raise ValueError("a text without tokens has no probability")
        payload = array("i", tokens).tobytes()
        reply = self._ask(lambda request: wire.Likelihoods(request, payload, ids), wire.Numbers)
        return reply.values

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        cancel: threading.Event | None = None,
        may_shift: bool = False,
    ) -> Iterator[Prefill | Piece | Stop]:
        """Yield Prefill …, Piece …, then one Stop; see the protocol.

        Leaving the iterator early cancels, and the cache stays consistent. `may_shift`: a prompt
        that is the cached one with its oldest turns cut out is not computed again (endless chats;
        `models.conversations` says what that costs); what was moved is `Stop.n_shifted`.
        """
        chosen = sampling or Sampling()
        request = self._send(
            lambda number: wire.Generate(
                number,
                array("i", tokens).tobytes(),
                max_tokens,
                chosen.temperature,
                chosen.top_p,
                chosen.seed,
                chosen.grammar,
                chosen.json_schema,
                list(stop),
                may_shift,
            ),
            cancel,
        )
        try:
            for message in self._replies(request, cancel):
                yield _event(message)
                if isinstance(message, wire.Stopped):
                    return
        finally:
            self._finish(request)

    def save_kv(self, path: Path, documents: Sequence[str] = ()) -> int:
        """Write the KV of the last prompt and its answer; return the number of its tokens.

        `documents`: SHA-256 of each document whose text is in it, so that it can be purged. 0 where
        it could not be written (a full disk): `kv_reason` says why.
        """
        name = str(path.absolute())
        return self._count(lambda request: wire.SaveKv(request, name, list(documents)))

    def load_kv(self, path: Path) -> int:
        """Restore KV; return the number of cached tokens, 0 where the file does not fit.

        `kv_reason` then says why; the next prompt is simply computed.
        """
        name = str(path.absolute())
        return self._count(lambda request: wire.LoadKv(request, name))

    def forget_kv(self) -> None:
        """Drop every conversation that the engine keeps, others' too: a document was removed."""
        self._count(wire.ForgetKv)

    def compare_kv(
        self, tokens: Sequence[int], kv_types: Sequence[str] = ("q8_0", "q4_0")
    ) -> list[KvComparison]:
        """Return what each KV type costs beside f16 on `tokens`, for `kv_quality.recommend`."""
        payload = array("i", tokens).tobytes()
        return self._ask(
            lambda request: wire.CompareKv(request, payload, list(kv_types)), wire.Compared
        ).comparisons

    def _count(self, build: Callable[[int], wire.Message]) -> int:
        reply = self._ask(build, wire.Count)
        self.kv_reason = reply.reason
        if reply.reason:
            self._log(f"KV: {reply.reason}")
        return reply.n_tokens

    def close(self) -> None:
        """Free the model. A closed engine is not used again."""
        self._is_closed = True
        if self._process is not None:
            self._process.end()
            self._process = None

    def __enter__(self) -> HostEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process ------------------------------------------------------------------------------

    @property
    def process(self) -> Process | None:
        """The process, while there is one."""
        return self._process

    def wait_until_ready(self) -> None:
        """Wait for the model to be loaded.

        Raises:
            ModelRefused, EngineDied: it cannot be.
        """
        self._ready()

    def _launch(self) -> None:
        """Start the process and ask it to load. The lock is held, but by the constructor."""
        if self._is_closed:
            raise EngineDied("the engine has been closed")
        self._opened = None
        self._process = self._start()
        self._mail = Mailboxes(self._process.channel)
        with contextlib.suppress(OSError, ValueError):  # a dead process is noticed by its silence
            self._process.channel.send(wire.Open(wire.VERSION, self.settings, self._uses_template))

    def _ready(self) -> wire.Opened:
        """Return what the process said when the model was loaded; start it where it ended."""
        with self._lock:
            process, mail = self._process, self._mail
            is_over = process is not None and process.is_shared and mail and mail.has_ended
            if is_over and self._opened is not None:
                self._log("the shared engine had ended, idle for long; it is started again")
                self._drop(process)
            if self._process is None:
                self._launch()
            if self._opened is None:
                self._opened = self._wait_for_opened()
            return self._opened

    def _wait_for_opened(self) -> wire.Opened:
        process, mail = self._process, self._mail
        assert process is not None and mail is not None
        message = mail.opening()
        if isinstance(message, wire.Opened):
            self._log(f"loaded {self.model.path} ({message.description})")
            return message
        if isinstance(message, wire.Failed):
            self._drop(process)
            raise _error(message)
        raise self._ended(process)

    def _died(self, process: Process | None) -> EngineDied:
        with self._lock:
            return self._ended(process)

    def _ended(self, process: Process | None) -> EngineDied:
        """Return the error of a process that ended; whoever notices first lets go of it."""
        tail = process.tail() if process else "it was not running"
        self._drop(process)
        self._log(f"the engine ended: {tail}")
        return EngineDied(
            f"the engine that ran {self.model.path} ended ({tail}); the next question starts it "
            "again"
        )

    def _drop(self, process: Process | None) -> None:
        if process is not None and self._process is process:
            self._process, self._mail, self._opened = None, None, None
            process.end()

    # -- requests ---------------------------------------------------------------------------------

    def _send(
        self, build: Callable[[int], wire.Message], cancel: threading.Event | None = None
    ) -> _Request:
        self._ready()
        with self._lock:
            process, mail = self._process, self._mail
        if process is None or mail is None:
            raise self._died(process)
        number, box = mail.open()
        request = _Request(number, box, process, mail)
        if cancel is not None and cancel.is_set():
            request.cancel()  # ahead of the request, so that not a token is computed
        try:
            process.channel.send(build(number))
        except (OSError, ValueError):
            raise self._died(process) from None
        return request

    def _replies(
        self, request: _Request, cancel: threading.Event | None = None
    ) -> Iterator[wire.Message]:
        """Yield the replies to a request; pass a cancel on when its event is set."""
        while True:
            if cancel is not None and not request.is_cancelled and cancel.is_set():
                request.cancel()
            try:
                waits = cancel is not None and not request.is_cancelled
                message = request.box.get(timeout=POLL_S if waits else None)
            except queue.Empty:
                continue
            if message is None:
                request.is_done = True
                raise self._died(request.process)
            if isinstance(message, wire.Stopped | wire.Failed):
                request.is_done = True
            if isinstance(message, wire.Failed):
                raise _error(message)
            yield message

    def _ask(self, build: Callable[[int], wire.Message], kind: type[Kind]) -> Kind:
        """Send a request that has one reply, and return it."""
        request = self._send(build)
        try:
            message = next(self._replies(request))
            request.is_done = True
            assert isinstance(message, kind), f"{message} is no {kind.__name__}"
            return message
        finally:
            self._finish(request)

    def _finish(self, request: _Request) -> None:
        """Forget a request; one whose replies nobody waits for any more is cancelled."""
        if not request.is_done and not request.is_cancelled:
            request.cancel()
        request.mail.close(request.number)

    def _choose_tokenizer(self, opened: wire.Opened) -> None:
        """Count here if our ids equal llama.cpp's on a probe, else ask the process."""
        tokenizer = build_tokenizer(self.model.vocabulary)
        if tokenizer is not None and tokenizer.encode(PROBE) == opened.probe:
            self._tokenizer = tokenizer
            return
        self._asks_process = True
        if tokenizer is not None:
            self._log(f"{self.model.path}: llama.cpp counts its tokens, ours differ")

    def _render(self, roles: tuple[str, ...]) -> Skeleton:
        """Have the process render the template; one that never ends costs the process."""
        self._ready()
        process = self._process
        watch = threading.Timer(TEMPLATE_S, self._kill_for_template, [process])
        watch.start()
        try:
            return self._ask(
                lambda number: wire.Render(number, list(roles)), wire.Rendered
            ).skeleton
        except EngineDied:
            if self._uses_template:
                raise
        finally:
            watch.cancel()
        self._log(f"{self.model.path}: its chat template does not end; the built-in one is used")
        return self._render(roles)

    def _kill_for_template(self, process: Process | None) -> None:
        if process is not None:
            self._uses_template = False
            process.kill()


def _event(message: wire.Message) -> Prefill | Piece | Stop:
    if isinstance(message, wire.Generated):
        return Piece(message.text, message.token)
    if isinstance(message, wire.Prefilled):
        return Prefill(message.n_done, message.n_total, message.n_reused)
    assert isinstance(message, wire.Stopped)
    return Stop(**{name: getattr(message, name) for name in STOP_FIELDS})


def _error(failed: wire.Failed) -> ModelError:
    """Return the exception that a `Failed` stands for."""
    kind = getattr(errors, failed.kind, None)
    if not isinstance(kind, type) or not issubclass(kind, ModelError):
        kind = ModelError
    return kind(failed.message)


# -- opening --------------------------------------------------------------------------------------


def open_engine(
    config: ModelConfig,
    *,
    log: Log | None = None,
    warn: Log | None = None,
    guesses: bool = True,
) -> HostEngine:
    """Return an engine for `[model]`; the process loads while the caller goes on.

    `warn` hears what the user should know of these settings, `log` everything. Without `guesses`
    each token is computed alone, as is wanted where their speed is measured.

    Raises:
        ModelNotFound: no such model or adapter.
        ModelRefused: the file, or the settings, cannot work; nothing was started.
    """
    path = resolve(config.path)
    model = read_model(path)
    adapter = choose_adapter(config.adapter, model)
    settings = load_settings(config, model, adapter.path if adapter else None, log or quiet, warn)
    settings = msgspec.structs.replace(settings, guesses=guesses)

    def start() -> Process:
        shared = None
        if config.keep_alive_s > 0:
            from models import shared_host

            shared = shared_host.start(settings, config.keep_alive_s)
        return shared or PrivateProcess()

    return HostEngine(settings, model, start, log, adapter)
