"""Episodes and replay buffers. Imports nothing."""
