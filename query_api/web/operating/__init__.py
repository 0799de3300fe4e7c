"""Routes of the operator.

- `operation.py`: health and metrics.
- `sessions.py`: sign in and out; `sign_ins.py` limits and records the attempts.
- `keys.py`: access keys; `audit.py`: the audit log.
- `dead_letters/`: refused messages.
- `status/`: the state of all processes, and what is wrong.
"""
