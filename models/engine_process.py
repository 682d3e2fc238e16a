"""The engine's process: loads one model and answers requests, one after another.

`python -m models.engine_process` talks over its standard input and output to the one caller that
started it and ends with it; `models.engine_daemon` serves several callers over a Unix socket
with the same loop. Requests are computed on the main thread; each connection has a thread that
reads, so that a cancel is heard while the model computes.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from docqa.errors import DocqaError, ModelError, ModelRefused
from docqa.protocols import Piece, Prefill, Sampling
from models import wire
from models.kv_file import KvIdentity
from models.settings import settings_digest

STOP_FIELDS = wire.Stopped.__struct_fields__[1:]  # those of docqa.protocols.Stop


@dataclass(eq=False, slots=True)
class Connection:
    """One caller."""

    channel: wire.Channel
    has_gone: Callable[[], bool] = lambda: False  # seen before the thread that reads comes to it
    is_open: bool = True
    cancelled: set[int] = field(default_factory=set)
    cached: array[int] = field(default_factory=lambda: array("i"))  # after its last generation

    def reply(self, message: wire.Message) -> None:
        """Send, unless the caller is gone."""
        try:
            self.channel.send(message)
        except (OSError, ValueError):
            self.is_open = False


class EngineProcess:
    """The requests of all connections, and the model they share."""

    def __init__(self, *, ends_with_caller: bool) -> None:
        self.jobs: queue.SimpleQueue[tuple[Connection, wire.Message]] = queue.SimpleQueue()
        self.connections: list[Connection] = []
        self._ends_with_caller = ends_with_caller
        self._model: _Model | None = None
        self._settings = ""
        self._state = "loading"
        self._began = self._last_used = time.monotonic()

    def listen(self, connection: Connection) -> None:
        """Read a connection to its end. Runs in a thread of its own."""
        self.connections.append(connection)
        for message in connection.channel.messages():
            if isinstance(message, wire.Cancel):
                connection.cancelled.add(message.id)
            elif isinstance(message, wire.AskStatus):  # answered while the model computes
                connection.reply(self._status(message.id))
            elif isinstance(message, wire.Render | wire.Tokenize) and self._model is not None:
                # They only read the vocabulary. A template that never ends holds up its own
                # caller, who kills the process, and nobody waits behind somebody's answer.
                self._answer(connection, message)
            else:
                self.jobs.put((connection, message))
        connection.is_open = False
        self.connections.remove(connection)
        if self._ends_with_caller:
            # Not sys.exit: the main thread may be deep in a decode of seconds.
            os._exit(0)

    def serve(self, idle_s: float | None = None) -> None:
        """Answer until told to end, or for `idle_s` seconds without a caller or a question."""
        while True:
            try:
                connection, message = self.jobs.get(timeout=min(idle_s or 3600.0, 5.0))
            except queue.Empty:
                if idle_s is not None and time.monotonic() - self._last_used > idle_s:
                    return
                continue
            if isinstance(message, wire.Shutdown):
                connection.reply(wire.Count(message.id, 0))
                return
            self._state = "busy" if self._model else "loading"
            self._answer(connection, message)
            self._state = "ready"
            self._last_used = time.monotonic()

    def _answer(self, connection: Connection, message: wire.Message) -> None:
        request = getattr(message, "id", 0)
        try:
            if isinstance(message, wire.Open):
                connection.reply(self._opened(message))
            elif self._model is None:
                raise ModelRefused("no model is loaded")
            else:
                self._model.answer(connection, message)
        except DocqaError as error:
            connection.reply(wire.Failed(request, type(error).__name__, str(error)))
        except Exception as error:  # the worker's edge: the caller gets it, the process goes on
            text = f"{type(error).__name__}: {error}"
            connection.reply(wire.Failed(request, "ModelError", text))
        connection.cancelled.discard(request)

    def _opened(self, message: wire.Open) -> wire.Opened:
        if message.version != wire.VERSION:
            raise ModelError("the engine runs another version of docqa: docqa engine stop")
        if self._model is None:
            self._settings = settings_digest(message.settings)
            self._model = _Model(message)
        elif self._settings != settings_digest(message.settings):
            raise ModelError("the engine is loaded with other settings: docqa engine stop")
        return self._model.opened()

    def _status(self, request: int) -> wire.Status:
        """Return what runs. Called from threads that read: looks at plain numbers only."""
        now = time.monotonic()
        model = self._model
        return wire.Status(
            request,
            os.getpid(),
            model.opened_with.settings.path if model else "",
            self._settings,
            self._state,
            sum(c.is_open and not c.has_gone() for c in list(self.connections)),
            model.context.n_context if model else 0,
            now - self._began,
            now - self._last_used if self._state == "ready" else 0.0,
            model.n_cached if model else 0,
            model.n_parked_bytes if model else 0,
        )


class _Model:
    """A loaded model and the requests it answers."""

    def __init__(self, opened_with: wire.Open) -> None:
        # Imported here, so that `Failed` can say what is wrong with the build.
        from models.llama_context import LlamaContext, LogTail
        from models.llama_engine import LlamaEngine
        from models.model_tokenizer import ModelTokenizer

        settings = opened_with.settings
        self.opened_with = opened_with
        self._kv_identity: KvIdentity | None = None
        self.n_cached = self.n_parked_bytes = 0
        self.context: LlamaContext
        if settings.engine == "torch":
            # Before torch starts its threads: waiting ones would spin on a machine that is busy.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            from models.torch_context import TorchContext

            self.context = TorchContext(settings, LogTail())
        else:
            self.context = LlamaContext(settings, LogTail())
        self.tokenizer = ModelTokenizer(self.context, Path(settings.path))
        self.engine = LlamaEngine(self.context)

    def opened(self) -> wire.Opened:
        from models.tokenizer import PROBE

        context = self.context
        bos = context.bos
        return wire.Opened(
            os.getpid(),
            context.description,
            context.n_context,
            context.tokenize(PROBE.encode(), False),
            -1 if bos is None else bos,
        )

    def answer(self, connection: Connection, message: wire.Message) -> None:
        if isinstance(message, wire.Generate):
            self._generate(connection, message)
        elif isinstance(message, wire.Likelihoods):
            tokens = array("i", message.tokens)
            values = self.engine.log_probs(tokens, message.continuations)
            connection.reply(wire.Numbers(message.id, values))
        elif isinstance(message, wire.SaveKv):
            connection.reply(self._save_kv(connection, message))
        elif isinstance(message, wire.LoadKv):
            connection.reply(self._load_kv(connection, message))
        elif isinstance(message, wire.ForgetKv):
            n_tokens = self.engine.forget()
            connection.cached = array("i")
            self._note(connection)
            connection.reply(wire.Count(message.id, n_tokens))
        elif isinstance(message, wire.CompareKv):
            from models.kv_selftest import compare

            if self.opened_with.settings.engine != "llama":
                raise ModelError("KV types are compared by the llama engine only")
            found = compare(self.context, array("i", message.tokens), message.kv_types)
            connection.reply(wire.Compared(message.id, found))
        elif isinstance(message, wire.Tokenize):
            ids = [
                self.tokenizer.encode(text, is_control, is_first=n == 0)
                for n, (text, is_control) in enumerate(message.texts)
            ]
            connection.reply(wire.Tokens(message.id, [array("i", i).tobytes() for i in ids]))
        elif isinstance(message, wire.Render):
            template = self.tokenizer.chat_template(self.opened_with.uses_template)
            connection.reply(wire.Rendered(message.id, template.skeleton(message.roles)))
        else:
            raise ModelError(f"a request that this engine does not know: {type(message).__name__}")

    def _identity(self) -> KvIdentity:
        from models.kv_identity import identity_of

        if self._kv_identity is None:
            settings, model = self.opened_with.settings, self.tokenizer.model
            self._kv_identity = identity_of(settings, model, self.context.n_context)
        return self._kv_identity

    def _save_kv(self, connection: Connection, message: wire.SaveKv) -> wire.Count:
        from models.kv_file import KvRefused, user_key, write_kv

        if not connection.cached:
            return wire.Count(message.id, 0, "nothing is cached")
        conversation = self.engine.cached(connection.cached)
        if conversation is None or len(conversation.tokens) != len(connection.cached):
            return wire.Count(message.id, 0, "another conversation has taken its place")
        if conversation.is_compressed:
            return wire.Count(message.id, 0, "its KV was compressed: it is not kept")
        state = self.context.state(conversation.sequence)
        try:
            write_kv(
                Path(message.path),
                self._identity(),
                conversation.tokens,
                state,
                user_key(),
                documents=message.documents,
                n_sinks=conversation.n_sinks,
            )
        except (OSError, KvRefused) as error:  # a full disk costs the cache, not the answer
            return wire.Count(message.id, 0, str(error))
        return wire.Count(message.id, len(conversation.tokens))

    def _load_kv(self, connection: Connection, message: wire.LoadKv) -> wire.Count:
        from models.kv_file import (
            KvRefused,
            first_difference,
            read_header,
            read_kv,
            touch,
            user_key,
        )

        path = Path(message.path)
        try:
            header = read_header(path, user_key())
            tokens = array("i", header.tokens)
            touch(path)
            is_ours = not first_difference(header.identity, self._identity())
            if is_ours and self.engine.cached(tokens) is not None:
                connection.cached = tokens  # the payload need not be read
                return wire.Count(message.id, len(tokens))
            header, state = read_kv(path, self._identity(), user_key())
        except KvRefused as error:
            return wire.Count(message.id, 0, str(error))
        tokens = array("i", header.tokens)
        if self.engine.restore(tokens, state, header.n_sinks) is None:
            return wire.Count(message.id, 0, f"{path.name}: llama.cpp refuses it")
        self._note(connection)
        return wire.Count(message.id, len(tokens))

    def _note(self, connection: Connection) -> None:
        """Keep what `SaveKv` and `Status` speak of."""
        if self.engine.last is not None:
            connection.cached = self.engine.last.tokens[:]
        self.n_cached = self.engine.n_cached
        self.n_parked_bytes = self.engine.n_parked_bytes

    def _generate(self, connection: Connection, message: wire.Generate) -> None:
        sampling = Sampling(
            message.temperature,
            message.top_p,
            message.seed,
            message.grammar,
            message.json_schema,
        )
        for event in self.engine.generate(
            array("i", message.tokens),
            max_tokens=message.max_tokens,
            sampling=sampling,
            stop=message.stop,
            may_shift=message.may_shift,
            is_cancelled=lambda: message.id in connection.cancelled or not connection.is_open,
        ):
            if isinstance(event, Piece):
                reply: wire.Message = wire.Generated(message.id, event.text, event.token)
            elif isinstance(event, Prefill):
                reply = wire.Prefilled(message.id, event.n_done, event.n_total, event.n_reused)
            else:
                self._note(connection)
                reply = wire.Stopped(message.id, *(getattr(event, name) for name in STOP_FIELDS))
            connection.reply(reply)


def main() -> None:
    """Serve the one caller at standard input and output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle
    reader = os.fdopen(os.dup(0), "rb")
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints to standard output must not reach the caller as a message
    process = EngineProcess(ends_with_caller=True)
    connection = Connection(wire.Channel(reader, writer, wire.Request))
    threading.Thread(target=process.listen, args=(connection,), daemon=True).start()
    process.serve()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
