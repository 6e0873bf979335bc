"""One request that may do harm, and its file format."""

import json
from dataclasses import asdict, dataclass, field

_BOUNDARY = b"hostile"


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """A request of a kind; the table counts each kind together."""

    kind: str
    body: bytes = b""
    content_type: str = f"multipart/form-data; boundary={_BOUNDARY.decode()}"
    path: str = "/predict"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def upload(cls, kind: str, data: bytes, filename: bytes = b"photo.jpg", path: str = "/predict") -> "HostileRequest":
        """Return a well-formed request that uploads a file."""
        head = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % (_BOUNDARY, filename)
        return cls(kind, head + data + b"\r\n--%s--\r\n" % _BOUNDARY, path=path)

    def encode(self) -> bytes:
        """Return a line of JSON, followed by the raw body."""
        head = asdict(self)
        del head["body"]
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def decode(cls, data: bytes) -> "HostileRequest":
        """Return the request that `encode` wrote."""
        head, _, body = data.partition(b"\n")
        return cls(body=body, **json.loads(head))
