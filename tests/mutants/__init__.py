"""Small mistakes in the product, to see whether the tests notice: docs/contributing/mutants.md."""
