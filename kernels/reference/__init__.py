"""The reference set: plain NumPy, one formula a line, any float dtype. Written to be read, and trusted."""
