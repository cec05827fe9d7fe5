"""The checks of an audit. Each returns findings, or raises `NotTested` with the reason."""
