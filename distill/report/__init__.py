"""What run folders say, as tables, pictures and one page: read by python -m distill.report."""
