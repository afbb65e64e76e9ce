"""The three protocols, pure: bytes in, canonical turns and events out, and back."""
