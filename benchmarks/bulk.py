"""A bulk job: a program sends a collection of pictures to `/v1/predictions` as background work."""

import asyncio
import io
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.load import Connection, connected
from testing.unique_images import UniqueImages

# The number of files in a request, and of requests at once.
_FILES, _REQUESTS = 8, 8
_OK, _REFUSED = 200, 429
_PAUSE_AFTER_REFUSAL_S = 0.2


@dataclass(slots=True)
class Bulk:
    """The outcome of a bulk job: images classified, total duration, and errors."""

    classified: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """The number of images classified per second."""
        return self.classified / self.seconds


class Sender:
    """Sends pictures to the service on a port of this machine, never the same bytes twice, with an urgency (0-7)."""

    def __init__(self, port: int, files: Sequence[bytes], urgency: int) -> None:
        self._port = port
        self._headers = f"Priority: u={urgency}\r\n"
        self._images = UniqueImages(files)
        self._boundary = secrets.token_hex(16)

    def send(self, images: int) -> Bulk:
        """Send at least `images` pictures, and return the outcome."""
        return asyncio.run(self._send(images))

    async def _send(self, images: int) -> Bulk:
        bulk, left, started = Bulk(), iter(range(0, images, _FILES)), time.perf_counter()
        await asyncio.gather(*(self._requests(bulk, left) for _ in range(_REQUESTS)))
        bulk.seconds = time.perf_counter() - started
        return bulk

    async def _requests(self, bulk: Bulk, left: Iterator[int]) -> None:
        """Send requests one after another, as long as there are any left to send."""
        async with connected(self._port) as connection:
            for _ in left:
                body = self._form()
                while not await self._ask(bulk, connection, body):
                    await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)

    async def _ask(self, bulk: Bulk, connection: Connection, body: bytes) -> bool:
        """Send a request; return whether it was accepted."""
        content_type = f"multipart/form-data; boundary={self._boundary}"
        status, _, answer = await connection.post("/v1/predictions", content_type, body, self._headers)
        if status == _REFUSED:
            return False
        told = json.loads(answer)
        if status != _OK:
            bulk.errors[f"{status} {told.get('code')}"] += _FILES
            return True
        errors = [result["error"]["code"] for result in told["results"] if result["error"]]
        bulk.errors.update(errors)
        bulk.classified += _FILES - len(errors)
        return True

    def _form(self) -> bytes:
        form = io.BytesIO()
        for filename, data in (self._images.next() for _ in range(_FILES)):
            form.write(f"--{self._boundary}\r\nContent-Disposition: form-data; ".encode())
            form.write(f'name="file"; filename="{filename}"\r\nContent-Type: image/jpeg\r\n\r\n'.encode())
            form.write(data + b"\r\n")
        form.write(f"--{self._boundary}--\r\n".encode())
        return form.getvalue()
