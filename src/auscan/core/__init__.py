"""The ground: AU names, errors, configs. Imports nothing else of auscan, and no torch."""
