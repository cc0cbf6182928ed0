"""What a run took, from its JSON lines: told.py NAME EXIT-CODE MIB FILE."""

import json
import sys

name, code, memory, path = sys.argv[1:]
steps, stages = [], []
with open(path) as lines:
    for line in lines:
        event = json.loads(line)
        if event["event"] == "step":
            steps.append(1e3 * event["seconds"])
        elif event["event"] == "error":
            stages.append(event["error"][:300])
        elif "seconds" in event:
            stages.append(f"{event['event']} {event['seconds']:.2f} s")
first, rest = steps[:1], sorted(steps[1:])
if rest:
    stages.append(f"steps {first[0]:.0f}, then {rest[len(rest) // 2]:.1f} ms")
print(f"{name:18} {'done' if code == '0' else 'exit code ' + code}, at most {memory} MiB on the card; {'; '.join(stages)}")
