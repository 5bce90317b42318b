# A timed job takes all of the resource `machine`, any other job a part: no two timed jobs and no other beside one.
# An undeclared resource is unlimited, and a rule without it costs nothing: this holds also where --resources or
# --workflow-profile replace the profile's.
workflow.global_resources.setdefault("machine", 100)


for each in workflow.rules:
    if "machine" not in each.resources:
        each.resources["machine"] = 1
