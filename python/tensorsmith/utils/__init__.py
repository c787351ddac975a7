"""Tools around training; `utils.data` feeds it."""
