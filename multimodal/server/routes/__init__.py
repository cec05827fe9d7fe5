"""Endpoints by topic. Each module defines `ENDPOINTS`; `multimodal.server.app` describes how to add one."""
