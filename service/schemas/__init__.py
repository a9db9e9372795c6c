"""Requests and replies of the native API. Offsets count Unicode code points."""
