"""The web page of python -m distill.serve: its files, the engine that it computes with, and the folder they make together."""
