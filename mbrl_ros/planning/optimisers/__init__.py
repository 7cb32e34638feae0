"""Optimisers of action sequences that implement `Optimiser`: random shooting, CEM, iCEM and MPPI. Pure tensor code."""
