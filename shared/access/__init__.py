"""Credentials and the audit log.

- `credentials.py`: the format of keys and tokens, and their digests.
- `keys.py`: creates, lists, revokes and rotates access keys.
- `bearer.py`: reads `Authorization: Bearer`.
- `audit.py`: writes the audit log.
"""
