"""What passes between a caller and the engine's process: framed MessagePack, never pickle.

A frame is its length (4 bytes, little-endian) and one message. Every request has an id that its
replies carry. Both sides are of one version: `VERSION` is compared when a connection opens.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from models.chat_template import Skeleton
from models.kv_quality import KvComparison
from models.settings import LoadSettings

VERSION = 6
MAX_FRAME_BYTES = 1 << 28


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Any message."""


class Open(Message, frozen=True):
    """Load this model, or say that it is loaded."""

    version: int
    settings: LoadSettings
    uses_template: bool = True  # False: the file's chat template hung before


class Tokenize(Message, frozen=True):
    """Texts, and whether special tokens are parsed from each, to ids."""

    id: int
    texts: list[tuple[str, bool]]


class Render(Message, frozen=True):
    """Roles to the skeleton of their conversation."""

    id: int
    roles: list[str]


class Likelihoods(Message, frozen=True):
    """A prompt and the tokens of several continuations to log P of each."""

    id: int
    tokens: bytes  # int32, little-endian
    continuations: list[list[int]]


class Generate(Message, frozen=True):
    """A prompt to Prefilled …, Generated …, Stopped."""

    id: int
    tokens: bytes
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    grammar: str | None
    json_schema: str | None
    stop: list[str]
    may_shift: bool


class Cancel(Message, frozen=True):
    """Stop that request; it still ends with its Stopped."""

    id: int


class SaveKv(Message, frozen=True):
    """Write the KV of the conversation that this connection used last."""

    id: int
    path: str
    documents: list[str]  # SHA-256 of each document whose text the prompt holds


class LoadKv(Message, frozen=True):
    """Restore a conversation."""

    id: int
    path: str


class ForgetKv(Message, frozen=True):
    """Drop every conversation from the context and from RAM: a document was removed."""

    id: int


class CompareKv(Message, frozen=True):
    """Run the self-test of KV types over these tokens."""

    id: int
    tokens: bytes
    kv_types: list[str]


class AskStatus(Message, frozen=True):
    """What is loaded and who uses it."""

    id: int


class Shutdown(Message, frozen=True):
    """End the process."""

    id: int


Request = (
    Open
    | Tokenize
    | Render
    | Likelihoods
    | Generate
    | Cancel
    | SaveKv
    | LoadKv
    | ForgetKv
    | CompareKv
    | AskStatus
    | Shutdown
)


class Opened(Message, frozen=True):
    """The model is loaded. `probe` are llama.cpp's ids of `models.tokenizer.PROBE`."""

    pid: int
    description: str
    context_length: int
    probe: list[int]
    bos: int  # -1: none is put before a prompt


class Tokens(Message, frozen=True):
    """The ids of each text, int32."""

    id: int
    ids: list[bytes]


class Rendered(Message, frozen=True):
    """A skeleton."""

    id: int
    skeleton: Skeleton


class Numbers(Message, frozen=True):
    """Log probabilities, in the order asked."""

    id: int
    values: list[float]


class Prefilled(Message, frozen=True):
    """Progress of reading the prompt."""

    id: int
    n_done: int
    n_total: int
    n_reused: int


class Generated(Message, frozen=True):
    """A token as text."""

    id: int
    text: str
    token: int


class Stopped(Message, frozen=True):
    """The end of a generation."""

    id: int
    reason: str
    n_prompt: int
    n_reused: int
    n_generated: int
    prefill_s: float
    decode_s: float
    n_shifted: int
    n_guessed: int
    n_accepted: int
    kv_bytes: int


class Count(Message, frozen=True):
    """The tokens whose KV was written or restored; where it is 0, why."""

    id: int
    n_tokens: int
    reason: str = ""


class Compared(Message, frozen=True):
    """The self-test's results."""

    id: int
    comparisons: list[KvComparison]


class Status(Message, frozen=True):
    """The state of the process."""

    id: int
    pid: int
    model: str
    settings: str  # digest; "" before anything is loaded
    state: str  # loading | ready | busy
    n_clients: int
    context_length: int
    uptime_s: float
    idle_s: float
    n_cached_tokens: int
    n_parked_bytes: int


class Failed(Message, frozen=True):
    """The request failed; `kind` is the name of an exception in docqa.errors."""

    id: int
    kind: str
    message: str


Reply = (
    Opened
    | Tokens
    | Rendered
    | Numbers
    | Prefilled
    | Generated
    | Stopped
    | Count
    | Compared
    | Status
    | Failed
)


class Channel:
    """One end of a connection: messages over two binary streams. Sending is thread-safe."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO, receives: object) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = msgspec.msgpack.Decoder(receives)  # type: ignore[call-overload]
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            OSError, ValueError: the other end is gone.
        """
        body = self._encoder.encode(message)
        with self._lock:
            self._writer.write(len(body).to_bytes(4, "little") + body)
            self._writer.flush()

    def messages(self) -> Iterator[Message]:
        """Yield what arrives, until the other end closes or says something that is no message."""
        while True:
            try:
                head = self._reader.read(4)
                n = int.from_bytes(head, "little")
                if len(head) < 4 or n > MAX_FRAME_BYTES:
                    return
                body = self._reader.read(n)
                if len(body) < n:
                    return
                message: Message = self._decoder.decode(body)
            except (OSError, ValueError, msgspec.DecodeError):
                return
            yield message

    def close(self) -> None:
        """Close both streams; the other end sees the end of the stream."""
        for stream in (self._writer, self._reader):
            try:
                stream.close()
            except OSError:  # what was still buffered cannot be sent: the other end is gone
                continue
