"""Text in and out: which language, which sentences, which sub-words, and where each of them stands."""
