"""The analyses of a worker, from their claims to their results.

1. `attempts.py` takes over claims, and gives each a place. `ahead.py` estimates how many more are worth claiming.
2. `together.py` computes small analyses together. Others are computed alone.
3. `finishing.py` writes results, many in one statement.
"""
