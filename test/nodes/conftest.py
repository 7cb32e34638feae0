"""Nodes of many tests share one process here, unlike in use."""

import gc

import pytest


@pytest.fixture(autouse=True)
def nodes_are_gone_after_their_test():
    """A node that only a reference cycle keeps would go on owning the log topic of the next one of its name."""
    yield
    gc.collect()
