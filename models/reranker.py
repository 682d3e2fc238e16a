"""Opens the reranker that the configuration names; holds the cross-encoder of a user's folder.

    open_reranker(config.retrieve, embedder) -> Reranker

`auto` is the interim scorer of `models.interim` and the trained reader of `models.reader` together:
both say what is evidence and where in it the answer stands, and their mean is better than each
(models/weights/reader.md). `interim` and `reader` are each of them alone; a folder is a
sentence-transformers cross-encoder. The caller handles `none`: nothing is reranked then and nothing
is opened. Where the reader's weights are not there or do not fit, the interim scorer works alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docqa.config import RetrieveConfig
from docqa.errors import ModelNotFound, ModelRefused
from docqa.protocols import Embedder, Passage, Relevance, Reranker
from models.interim import InterimReranker


def open_reranker(config: RetrieveConfig, embedder: Embedder) -> Reranker:
    """Return the reranker that `config.reranker` names.

    Args:
        config: `reranker` is `auto`, `reader`, `interim` or the path of a cross-encoder folder.
        embedder: runs the interim scorer.

    Raises:
        ModelNotFound: the folder does not exist.
        ModelRefused: the folder holds no cross-encoder with a single score.
    """
    if config.reranker == "interim":
        return InterimReranker(embedder)
    if config.reranker not in ("auto", "reader"):
        return CrossEncoderReranker(Path(config.reranker).expanduser())
    from models.embedder import packaged_folder
    from models.reader import PassageReader, Reader

    if config.reranker == "reader":
        try:
            return Reader.open(packaged_folder(), InterimReranker(embedder))
        except (ModelNotFound, ModelRefused):
            pass  # the one below says what is wrong, in its name
    return InterimReranker(embedder, lambda: PassageReader.open(packaged_folder()))


class CrossEncoderReranker:
    """Any sentence-transformers cross-encoder with one output, from a folder on this machine.

    Its scores rank. They are no probabilities of ours, so `threshold` lets everything pass unless
    the configuration sets `retrieve.min_relevance`.
    """

    def __init__(self, folder: Path, batch_size: int = 32) -> None:
        if not folder.is_dir():
            raise ModelNotFound(
                f"reranker '{folder}': no such folder; "
                "set retrieve.reranker to auto, none or a cross-encoder folder"
            )
        self._folder = folder
        self._batch_size = batch_size
        self._model = _load_cross_encoder(folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"cross-encoder {self._folder.name}"

    @property
    def is_calibrated(self) -> bool:
        """False: nothing is known of the scale."""
        return False

    @property
    def threshold(self) -> float:
        """Below every score."""
        return -math.inf

    def score(self, question: str, passages: Sequence[Passage]) -> list[Relevance]:
        """Return one Relevance a passage, without spans."""
        if not passages:
            return []
        pairs = [(question, f"{p.context}\n{p.text}" if p.context else p.text) for p in passages]
        scores = self._model.predict(
            pairs, batch_size=self._batch_size, show_progress_bar=False, convert_to_numpy=True
        )
        return [Relevance(float(score)) for score in scores]


def _load_cross_encoder(folder: Path) -> Any:
    """Return the model of `folder`, read from the disk alone. Imports torch: seconds."""
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelRefused(f"reranker '{folder}': not a cross-encoder folder: {error}") from error
    if model.num_labels != 1:
        raise ModelRefused(
            f"reranker '{folder}': it has {model.num_labels} outputs; one score is needed"
        )
    return model
