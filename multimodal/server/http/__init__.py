"""HTTP itself: connections, access, logs, traces and the schema. Knows nothing about models."""
