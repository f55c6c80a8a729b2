"""Starts any WebUI of A1111's family with this extension, uses it like a user, and records what happened.

python -m tests.hosts sdnext --folder CHECKOUT --python PYTHON --version "2026-07-23 (058a7f0)"
python -m tests.hosts table      writes the table of docs/hosts.md from records/
"""
