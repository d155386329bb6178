"""One thread in this folder, and torch's settings put back that a run changes."""

from one_thread import settings_put_back

__all__ = ["settings_put_back"]
