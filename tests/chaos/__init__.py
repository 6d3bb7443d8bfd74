"""Faults under load, on real servers; what must stay true is read from two ledgers.

``make chaos`` runs all of it, see docs/topics/chaos.rst.
"""
