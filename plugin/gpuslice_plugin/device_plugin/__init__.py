"""The device plugin: pods ask for numbers, and get GPUs when their containers start."""
