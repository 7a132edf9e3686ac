"""What `gpuslice diag` does to a GPU that it has for itself.

A child process of each GPU touches it (worker), the parent waits with deadlines (session), and pure
functions say what the figures mean (judge).
"""
