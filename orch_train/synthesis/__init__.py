"""What synthesis finds by name here: the runner ``ray`` and the writer ``engine``."""
