"""A bulk job: a collection of pictures that a program sends to `/v1/predictions` as work that has time."""

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

# So many files in a request, and so many requests at once.
_FILES, _REQUESTS = 8, 8
_OK, _REFUSED = 200, 429
_PAUSE_AFTER_REFUSAL_S = 0.2


@dataclass(slots=True)
class Bulk:
    """What became of a bulk job: how many images were classified, how long all of it took, and what went wrong."""

    classified: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """How many images were classified a second."""
        return self.classified / self.seconds


class Sender:
    """Sends pictures to the service on a port of this machine, never the same bytes twice, as urgent as said (0-7)."""

    def __init__(self, port: int, files: Sequence[bytes], urgency: int) -> None:
        self._port = port
        self._headers = f"Priority: u={urgency}\r\n"
        self._images = UniqueImages(files)
        self._boundary = secrets.token_hex(16)

    def send(self, images: int) -> Bulk:
        """Send at least so many pictures, and return what became of them."""
        return asyncio.run(self._send(images))

    async def _send(self, images: int) -> Bulk:
        bulk, left, started = Bulk(), iter(range(0, images, _FILES)), time.perf_counter()
        await asyncio.gather(*(self._requests(bulk, left) for _ in range(_REQUESTS)))
        bulk.seconds = time.perf_counter() - started
        return bulk

    async def _requests(self, bulk: Bulk, left: Iterator[int]) -> None:
        """Send a request when the last one is answered, as long as there are any left to send."""
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
