"""What README and docs state about measurements, held against the measurements (docs/claims.md).

`spec` reads config/claims.yaml, `query` turns a query into cells with intervals, `verdict` compares them with what is
wanted, `pages` writes the numbers into README and docs, `figure` draws them.
"""
