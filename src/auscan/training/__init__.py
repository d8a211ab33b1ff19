"""Teaching the network and scoring it: labels and scores in, checkpoints, figures and submissions out.

Beside the chain: nothing between a video and its result imports this.
"""
