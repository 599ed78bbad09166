"""Restricted Boltzmann machines. Source: Krizhevsky 2009, section 1.4."""
