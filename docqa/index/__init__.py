"""The two indexes: disposable caches over the store."""
