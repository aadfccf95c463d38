"""Supervised processes that read hostile bytes: sandboxed, limited, replaced when they crash or hang."""
