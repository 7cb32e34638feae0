"""Optimal control of an arm by quadratic programmes: its problem, solver, cost and geometry; needs no sampling."""
