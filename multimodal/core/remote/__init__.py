"""Object storage: addresses such as "s3://bucket/name", their credentials, and the files below them."""
