"""Saying an answer in the bytes of each wire, modelled on what the real services send."""
