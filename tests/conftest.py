"""Settings of all tests."""

from hypothesis import settings

# No property is about time, and machines are busy now and then.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")
