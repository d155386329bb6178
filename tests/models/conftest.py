"""What the tests of this folder share."""

from one_thread import one_thread

__all__ = ["one_thread"]
