"""Simulated Apple GPUs: how long a route would take, from a model that can be read.

The model is a roofline with the bounds that matter for matrix products: memory, the last-level cache, arithmetic by
unit, threadgroups over cores with their tail, waiting at barriers, and launches. Its numbers are predictions: nothing
that comes out of here was measured, and every table and report made from it says so.

``chip`` has the constants, ``work`` what one launch asks of a GPU and how long that takes, ``vector``, ``tiled`` and
``stock`` turn kernels into launches, ``model`` puts them together, and ``device`` makes a device of it that a sweep can
measure.
"""
