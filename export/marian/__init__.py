"""Models that others trained with Marian: reading their files, rebuilding their architecture, writing their graphs."""
