"""What runs a policy in time: clock, observation buffer, chunk executor, limits, watchdog, the control loop.

Torch-free; times are seconds of a ``Clock``, ticks are control steps counted from 0.
"""
