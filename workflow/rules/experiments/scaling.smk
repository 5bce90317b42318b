# The same products on the first n individuals: cost as n grows.
SESSIONS.append("scaling")
TARGETS += expand(f"{RESULTS}/raw/scaling/{{case}}.json", case=CASES["scaling"])
