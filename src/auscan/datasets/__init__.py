"""Data sets on disk become one index, a row a frame. Beside the chain, which never imports this."""
