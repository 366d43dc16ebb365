"""Pretraining corpora and the exact mix: pure functions of (documents, ratio, seed)."""
