"""One loss per file, NAME.py with conf/loss/NAME.yaml, found by name; base/ has the contract and what several share."""
