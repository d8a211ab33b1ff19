"""Serve the Studio, the local web app.

The server receives files, runs `auscan detect` on each in a subprocess and shows the results. Job records are
in one SQLite file beside the result folders.
"""
