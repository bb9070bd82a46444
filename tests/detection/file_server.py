"""A server of files with https, as far from perfect as those of the Internet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
import hashlib
import ipaddress
from pathlib import Path
import ssl

from aiohttp import ClientSession, TCPConnector, web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from custom_components.nemotron_security.detection.download import RemoteFile


class FileServer:
    """Serves one file; can be told to break off, to know no ranges, to serve another one."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tag = '"one"'
        self.ranges = True
        self.break_after: list[int] = []
        """For each of the next requests, after how many bytes the connection breaks."""
        self.status = 200
        self.location = ""
        self.says_length = True
        self.pause: asyncio.Event | None = None
        """What an answer waits for after its first bytes."""
        self.asked: list[tuple[str, str]] = []
        """Range and If-Range of each request."""
        self.base = ""

    @property
    def file(self) -> RemoteFile:
        """The file as it should be."""
        return RemoteFile(
            url=f"{self.base}/model.pt", size=len(self.content), sha256=hashlib.sha256(self.content).hexdigest()
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        wanted, known = request.headers.get("Range", ""), request.headers.get("If-Range", "")
        self.asked.append((wanted, known))
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": self.location})
        if self.status != 200:
            return web.Response(status=self.status)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        partial = self.ranges and bool(start) and known == self.tag
        body = self.content[start:] if partial else self.content
        response = web.StreamResponse(status=206 if partial else 200)
        if self.tag:
            response.headers["ETag"] = self.tag
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        if self.says_length:
            response.content_length = len(body)
        await response.prepare(request)
        if self.break_after:
            await response.write(body[: self.break_after.pop(0)])
            await asyncio.sleep(0.1)  # what was not read when a connection breaks is lost
            assert request.transport is not None
            request.transport.close()
            return response
        if self.pause is not None:
            await response.write(body[:1000])
            await self.pause.wait()
            body = body[1000:]
        await response.write(body)
        return response


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, signed by itself; returns it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


@asynccontextmanager
async def serving(content: bytes, folder: Path) -> AsyncIterator[tuple[FileServer, ClientSession]]:
    """Serve a file with https on this machine, and yield a session that trusts it."""
    files = FileServer(content)
    application = web.Application()
    application.router.add_get("/{name}", files.handle)
    certificate_path, key_path = certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_path, key_path)
    server = TestServer(application, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    files.base = f"https://127.0.0.1:{server.port}"
    trusting = ssl.create_default_context(cafile=str(certificate_path))
    try:
        async with ClientSession(connector=TCPConnector(ssl=trusting)) as session:
            yield files, session
    finally:
        await server.close()
