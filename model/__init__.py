"""The model worker: the network, and the loop that feeds it."""
