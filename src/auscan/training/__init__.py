"""Train the network, score data sets with it and evaluate the scores.

Inputs: labels and scores. Returns: checkpoints, metrics and challenge submissions. The path from a video to
its result imports nothing from here.
"""
