"""The two indexes: disposable caches over the store."""


class IndexMismatch(Exception):
    """An index is absent, damaged, of another library, embedder or version: rebuild it.

    A signal between an index and its owner, never shown to the user. `reason` is one clause.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
