"""What went wrong on an object store, in one sentence with the cure: clients report pages of internals."""

from __future__ import annotations

import re

from multimodal.core.remote.path import RemotePath, first_of

NO_BUCKET = re.compile(r"NO_?SUCH_?BUCKET|bucket does not exist|ContainerNotFound", re.IGNORECASE)
WRONG_REGION = re.compile(
    r"PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301|status: 301|IllegalLocationConstraint"
    r"|region .* is wrong|wrong region|configured region",
    re.IGNORECASE,
)
NO_ACCESS = re.compile(
    r"ACCESS_?DENIED|Forbidden|HTTP status 40[13]|status: 40[13]|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID"
    r"|SignatureDoesNotMatch|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|InvalidClientTokenId|UNRECOGNIZED_CLIENT"
    r"|no credentials|missing credentials|CredentialsNotLoaded|failed to get AWS credentials|Unauthenticated"
    r"|Could not create credentials|AuthenticationFailed|169\.254\.169\.254",  # the credentials of a cloud machine
    re.IGNORECASE,
)
NO_NETWORK = re.compile(
    r"NETWORK_CONNECTION|Could(?:n't| not) (?:connect|resolve)|error sending request|ConnectError|dns error"
    r"|timed? ?out|Timeout was reached|Connection (?:refused|reset)|error trying to connect|kind: Connect",
    re.IGNORECASE,
)
REGION = re.compile(r"(?:in |expecting )'?\"?([a-z]{2}(?:-[a-z]+)+-\d)")
VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "HF_TOKEN",
}
CONTAINERS = {"s3": "bucket", "gs": "bucket", "az": "container", "hf": "repository"}


def explain(path: RemotePath, error: BaseException) -> str | None:
    """One sentence for an error of a client, with the cure; None if it is not of the store itself."""
    text, kind = str(error), CONTAINERS.get(path.scheme, "server")
    if NO_BUCKET.search(text):
        return f"the {kind} {path.container!r} does not exist; create it first, or check its name"
    if WRONG_REGION.search(text):
        known = REGION.search(text)
        where = f"{known[1]}, not in the region that is set" if known else "another region than the one set"
        name = known[1] if known else "its region"
        return f"the {kind} {path.container!r} is in {where}; set AWS_REGION={name}, or storage_options['aws_region']"
    if NO_ACCESS.search(text):
        variables = VARIABLES.get(path.scheme, "credentials")
        return (
            f"no access to the {kind} {path.container!r}; set {variables}, or pass storage_options, with the "
            "permission to list and read it, and to write for changes"
        )
    if NO_NETWORK.search(text):
        return f"{_server(path)} cannot be reached; check the network, the proxy and the endpoint"
    return None


def _server(path: RemotePath) -> str:
    options = path.storage_options
    return first_of(options, "aws_endpoint", "endpoint", "aws_endpoint_url", "endpoint_url") or {
        "s3": "Amazon S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage",
        "hf": "the Hugging Face Hub",
    }.get(path.scheme, path.url)  # fmt: skip


def first_line(error: BaseException, limit: int = 200) -> str:
    """The start of an error's message, which may be pages long."""
    return " ".join(str(error).split())[:limit]
