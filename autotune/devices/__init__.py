"""Devices: how a route is run, checked and timed. One protocol; MLX's backends behind it, and others beside them."""
