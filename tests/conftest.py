"""What holds for all tests."""

from __future__ import annotations

import signal

# A suite that was started in the background inherits an ignored Ctrl-C, one under nohup an ignored hang-up, and so
# would every command that it runs.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
