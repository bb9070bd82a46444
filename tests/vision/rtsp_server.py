"""An RTSP camera made of an H.264 file, by GStreamer. Run by the system's Python: `python3 rtsp_server.py FILE.h264`.

Prints its address, without the login that it asks for (guard, secret).
"""

from itertools import pairwise
from pathlib import Path
import re
import sys
from typing import Any

import gi  # type: ignore[import-not-found]  # the system's, not ours

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

FPS = 25
LAUNCH = (
    "( appsrc name=source is-live=true format=time block=false"
    " caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! rtph264pay name=pay0 pt=96"
    " config-interval=1 )"
)


def access_units(data: bytes) -> list[bytes]:
    """Split where a picture begins: at a parameter set, or a slice that is not the second of its picture."""
    starts = [match.start() for match in re.finditer(rb"\x00\x00\x00\x01", data)] + [len(data)]
    units, unit = [], b""
    for begin, end in pairwise(starts):
        unit += data[begin:end]
        if data[begin + 4] & 0x1F in (1, 5):
            units.append(unit)
            unit = b""
    return units


class Camera(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    """Feeds the access units for ever, with times that rise."""

    def __init__(self, units: list[bytes]) -> None:
        super().__init__()
        self.units = units
        self.set_launch(LAUNCH)
        self.connect("media-configure", self.configure)

    def configure(self, _factory: Any, media: Any) -> None:
        source = media.get_element().get_child_by_name("source")
        state = {"number": 0}

        def feed() -> bool:
            buffer = Gst.Buffer.new_wrapped(self.units[state["number"] % len(self.units)])
            buffer.pts = buffer.dts = state["number"] * Gst.SECOND // FPS
            buffer.duration = Gst.SECOND // FPS
            state["number"] += 1
            return bool(source.emit("push-buffer", buffer) == Gst.FlowReturn.OK)

        GLib.timeout_add(1000 // FPS, feed)


def login() -> Any:
    """Ask for a user and a password."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("guard", "secret"), token)
    return auth


def main() -> None:
    Gst.init(None)
    units = access_units(Path(sys.argv[1]).read_bytes())
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = Camera(units)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)  # noqa: FBT003
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)  # noqa: FBT003
    factory.set_permissions(permissions)
    server.set_auth(login())
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)  # noqa: T201
    GLib.MainLoop().run()


main()
