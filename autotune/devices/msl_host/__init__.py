"""The MSL host: Metal kernels, as MLX would hand them to Apple's compiler, on a Linux CPU.

``record`` takes down the source, ``translate`` and ``include/`` make it C++ for OpenCL, ``toolchain`` compiles it,
``native`` and ``runtime/`` run it. ``host`` joins these; ``runner`` puts our own kernels' launches through it.
"""
