"""Settings of all tests."""

from hypothesis import settings

# Without a deadline: no property concerns time, and a busy machine may be slow.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")
