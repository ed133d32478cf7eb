"""The commands of `incref conform`, one file each."""
