"""dragoman: lets one coding agent lead and another work, on any model."""

__version__ = "0.1.0"
