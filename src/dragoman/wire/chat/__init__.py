"""Chat Completions: requests and streams, both ways."""
