"""A server for assistants that speak the Model Context Protocol: over stdio (`multimodal mcp`) and over HTTP (`/mcp`).

- `tools`: what an assistant can do, independent of the protocol
- `facets`: the metadata keys and values of an index
- `protocol`: the tools and resources as the `mcp` package serves them
- `stdio`: a server on stdin and stdout
"""
