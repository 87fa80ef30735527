"""Processes of one user on one host that send their records together: chosen in `opening`."""
