"""``python -m striate`` is the same as ``striate``."""

from striate.app.main import entry

if __name__ == "__main__":
    entry()
