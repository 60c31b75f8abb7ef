"""What holds for all tests."""

from __future__ import annotations

import signal

# A suite that a script started in the background inherits an ignored Ctrl-C, and so would every command that it runs.
signal.signal(signal.SIGINT, signal.default_int_handler)
