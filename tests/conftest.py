"""For all tests: what a shell that starts us in the background does to signals ends here."""

import signal

# It ignores them, as POSIX wants, and a program that inherits that cannot catch them any more.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
