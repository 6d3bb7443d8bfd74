"""What operators ask a process: alive, ready, and its numbers.

``health`` decides, ``endpoints`` answer, ``numbers`` are collected and ``workers`` joins
them over the processes of one server. docs/howto/monitoring.rst.
"""
