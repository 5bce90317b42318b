# Z V and Z'U through every kernel.
SESSIONS.append("products")
TARGETS += expand(f"{RESULTS}/raw/products/{{case}}.json", case=CASES["products"])
