"""Processes, hardware, files and folders: what every room rests on."""
