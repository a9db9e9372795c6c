"""One module per dialect of HTTP, all thin over :mod:`service.core`."""
