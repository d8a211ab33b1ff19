"""Studio: auscan in a browser, on one's own machine.

A shell over the library: it takes files, runs `auscan detect` on them in processes of their own, and shows
what came out. Whatever it knows beyond the results themselves lies in one SQLite file beside them.
"""
