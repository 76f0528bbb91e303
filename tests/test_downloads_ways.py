"""Ways to weights that are no plain HTTP: proxies, encryption, Google Drive."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from diffir_cli.errors import WeightsError
from diffir_cli.weights.registry import WeightSpec
from tests.download_helpers import HASTY, by, get
from tests.web import Web, served

pytestmark = pytest.mark.usefixtures("home")


def test_proxies_come_from_the_environment(
    spec: WeightSpec, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert get(by(spec, "http://example.invalid/ok/tiny.pth")).read_bytes() == web.content
    assert web.asked[0][0] == "http://example.invalid/ok/tiny.pth"


@pytest.fixture
def secure(content: bytes, tmp_path: Path) -> Iterator[tuple[Web, Path]]:
    """A server with a certificate that nobody trusts yet, and that certificate."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    chain, trusted = tmp_path / "chain.pem", tmp_path / "authority.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(trusted))
    with served(content, (str(chain), str(chain))) as web:
        yield web, trusted


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_https_is_trusted_with_the_certificates_of_the_environment_alone(
    name: str, spec: WeightSpec, secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, trusted = secure
    with pytest.raises(WeightsError, match="certificate cannot be trusted"):
        get(by(spec, web.url("ok")))
    monkeypatch.setenv(name, str(trusted))
    assert get(by(spec, web.url("ok"))).read_bytes() == web.content


def test_certificates_that_are_not_where_they_should_be_are_named(
    spec: WeightSpec, secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with pytest.raises(WeightsError, match=r"/nowhere/certificates\.pem"):
        get(by(spec, secure[0].url("ok")))


def test_a_handshake_that_breaks_is_tried_again(spec: WeightSpec) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    met: list[str] = []

    def hang_up() -> None:
        with suppress(OSError):
            while True:
                connection, (address, _) = listener.accept()
                met.append(address)
                connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    with listener, pytest.raises(WeightsError, match=r"no connection|broke off") as caught:
        get(by(spec, f"https://127.0.0.1:{listener.getsockname()[1]}/tiny.pth"))
    assert "certificate" not in caught.value.message
    assert len(met) == HASTY.attempts


def test_https_never_falls_back_to_http(
    spec: WeightSpec, secure: tuple[Web, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, trusted = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with pytest.raises(WeightsError, match="from https to http"):
        get(by(spec, web.url("insecure")))


def test_google_drive_without_gdown_says_what_to_do_by_hand(
    spec: WeightSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(WeightsError, match=r"pip install 'diffir-cli\[gdrive\]'") as caught:
        get(by(spec, "gdrive:abc123"))
    assert spec.source in caught.value.hint
    assert "--from tiny.pth" in caught.value.hint
