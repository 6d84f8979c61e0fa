"""`python -m runtime.cli` is `actor-scheduler`."""

from __future__ import annotations

from runtime.cli.main import main

if __name__ == "__main__":
    main()
