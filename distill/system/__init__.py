"""Files, processes, hardware, several processes as one job, the console and the command line."""
