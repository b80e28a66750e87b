"""The commands of `tinyllm`, a file each: its `command` is imported when it is asked for."""
