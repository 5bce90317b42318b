# Raw, centred and imputed products in turn in one process.
SESSIONS.append("centred")
TARGETS += expand(f"{RESULTS}/raw/centred/{{case}}.json", case=CASES["centred"])
