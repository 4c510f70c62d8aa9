"""Version of the package. The leading 2 is the level of the official SDK whose surface it serves."""

__version__ = "2.100.0"
