"""What every noun of the API is made with: problems, pages, filters, entity tags."""
