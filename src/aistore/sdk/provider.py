"""Where the content of a bucket lives."""

from __future__ import annotations

from enum import Enum

__all__ = ["ALIAS_GS", "ALIAS_S3", "Provider"]

ALIAS_GS = "gs"
ALIAS_S3 = "s3"


class Provider(Enum):
    """Provider of a bucket; the value is what goes over the wire (protocol/00 6.1).

    `HTTP` exists for servers before 5.0 only.
    """

    AIS = "ais"
    AMAZON = "aws"
    AZURE = "azure"
    GOOGLE = "gcp"
    HTTP = "ht"
    OCI = "oci"

    def is_remote(self) -> bool:
        """Whether the content lives outside of the cluster."""
        return self is not Provider.AIS

    @staticmethod
    def parse(provider: str | Provider) -> Provider:
        """Provider named by `provider`: a canonical name, `s3`, `gs`, or a member.

        Raises `InvalidBckProvider` for anything else; empty is no provider here.
        """
        found = _PARSED.get(provider)
        if found is None:
            from aistore.sdk.errors import InvalidBckProvider

            raise InvalidBckProvider(provider, "one of ais, aws/s3, azure, gcp/gs, oci")
        return found


_PARSED: dict[str | Provider, Provider] = {
    **{member.value: member for member in Provider},
    **{member: member for member in Provider},
    ALIAS_S3: Provider.AMAZON,
    ALIAS_GS: Provider.GOOGLE,
}
