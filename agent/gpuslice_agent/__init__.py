"""The agent of a GPU node.

A share comes to be from top to bottom: discovery looks at the node, model has the words for what it
saw, allocation finds a place, the ledger remembers it, enforcement makes it hold, publish and
control tell others. shares walks that way for every caller; daemon puts the parts together.
"""
