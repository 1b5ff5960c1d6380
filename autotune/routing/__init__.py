"""Routing: the table, the router, and the ops that compute through them."""
