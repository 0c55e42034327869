"""Certificates of listeners with TLS: files that are refused, stapled responses of OCSP, and their end."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from edgerouter import Certificate, ConfigError, Secret, Tls, secret_file

from ..certificates import Authority
from .clients import address_of, sample, until
from .conftest import Start, site


def test_a_certificate_file_that_cannot_be_used_is_refused_with_file_and_remedy(
    authority: Authority, tmp_path: Path
) -> None:
    good, other = authority.issue("www.example.com"), authority.issue("other.example.com")
    (tmp_path / "text.pem").write_text("no certificate")
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    whole, issuer = good.chain.read_text(), authority.file.read_text()
    behind, cut, bad = (tmp_path / f"{name}.pem" for name in ("behind", "cut", "bad"))
    behind.write_text(issuer + whole)
    cut.write_text(whole + issuer[:-60])
    bad.write_text(whole + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for certificate, path, message in (
        (Certificate(missing, good.key), "chain", f"file {missing}: cannot be read: No such file"),
        (Certificate(good.chain, missing), "key", f"file {missing}: cannot be read: No such file"),
        (Certificate(text, good.key), "chain", f"file {text}: holds no certificate in PEM; give the file"),
        (Certificate(good.chain, text), "key", f"file {text}: holds no private key in PEM; give the certificate's own"),
        (Certificate(good.chain, other.key), "key", f"file {other.key}: is not the key of the certificate"),
        (Certificate(good.key, good.key), "chain", f"file {good.key}: holds no certificate in PEM"),
        (Certificate(authority.file, good.key), "key", "is not the key of the certificate"),
        (Certificate(behind, good.key), "chain", "of the key, which is number 2 in it; put that one first"),
        (Certificate(cut, good.key), "chain", "holds a certificate in PEM that is damaged"),
        (Certificate(bad, good.key), "chain", "holds a certificate that cannot be read, number 2 in it"),
    ):
        edge = site(Tls([good.certificate, certificate]))
        with pytest.raises(ConfigError) as refused:
            edge.compile()
        (problem,) = refused.value.problems
        assert problem.path == f"listeners[0].tls[0].certificates[1].{path}"
        assert message in problem.message
        assert problem.place, "the user's line"


def test_no_message_shows_a_key(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("www.example.com")
    pem = issued.key.read_text()
    certificate = Certificate(secret_file(issued.chain), Secret.literal(pem.replace("PRIVATE KEY", "SECRET")))
    secret = pem.splitlines()[1]
    assert secret not in repr(certificate)
    with pytest.raises(ConfigError) as refused:
        site(Tls(certificate)).compile()
    assert "holds no private key" in str(refused.value)
    assert secret not in str(refused.value)
    with pytest.raises(ConfigError, match="must be the name of a file") as refused:
        Certificate(issued.chain, pem)
    assert secret not in str(refused.value)


def test_a_name_that_two_policies_of_a_listener_have_is_refused(authority: Authority) -> None:
    first, second = authority.issue("a.example.com", "*.example.com"), authority.issue("A.example.com")
    with pytest.raises(ConfigError, match=r"tls\[1\]\.certificates\[0\]\.chain: is for A\.example\.com, .* tls\[0\]"):
        site([Tls(first.certificate), Tls(second.certificate)]).compile()


def test_a_response_of_ocsp_is_stapled_until_its_end(
    authority: Authority, start: Start, tmp_path: Path, standard_error: Callable[[], str]
) -> None:
    issued, late = (authority.issue(f"{name}.example.com") for name in ("www", "late"))
    responses = {"www": authority.ocsp(issued), "late": authority.ocsp(late, days=-1)}
    for name, response in responses.items():
        (tmp_path / f"{name}.der").write_bytes(response)
    given = [
        Certificate(certificate.chain, certificate.key, ocsp=tmp_path / f"{name}.der")
        for name, certificate in (("www", issued), ("late", late))
    ]
    server = start(site(Tls(given)))
    host, port = address_of(server.urls[0])
    for name, status in (("www", b"OCSP Response Status: successful"), ("late", b"OCSP response: no response sent")):
        client = subprocess.run(
            [*f"openssl s_client -connect {host}:{port} -servername {name}.example.com -status".split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert status in client.stdout, name
    until(lambda: "the response of OCSP for late.example.com is out of date" in standard_error())
    assert "OCSP for www" not in standard_error()


def test_a_response_of_ocsp_that_clients_refuse_is_refused(authority: Authority, tmp_path: Path) -> None:
    issued, other = authority.issue("www.example.com"), authority.issue("other.example.com")
    for response, message in (
        (b"nothing", "is no successful response of OCSP in DER"),
        (authority.ocsp(issued)[:-1], "is no successful response of OCSP in DER"),
        (authority.ocsp(other), "is about another certificate"),
        (authority.ocsp(issued, OCSPCertStatus.REVOKED), "has the status revoked"),
        (authority.ocsp(issued, OCSPCertStatus.UNKNOWN), "has the status unknown"),
    ):
        (tmp_path / "ocsp.der").write_bytes(response)
        with pytest.raises(ConfigError, match=rf"certificates\[0\]\.ocsp: file .*ocsp\.der: {message}"):
            site(Tls(Certificate(issued.chain, issued.key, ocsp=tmp_path / "ocsp.der"))).compile()


def test_the_end_of_each_certificate_is_a_metric_and_is_logged_when_it_is_near(
    authority: Authority, start: Start, standard_error: Callable[[], str]
) -> None:
    ends = {"late": 30, "soon": 3, "over": -1}
    late, soon, over = (authority.issue(f"{name}.example.com", days=days) for name, days in ends.items())
    server = start(site([Tls([late.certificate, soon.certificate]), Tls(over.certificate)]))
    now = time.time()
    for name, days in ends.items():
        end = sample(server, f'edgerouter_tls_certificate_expiry_timestamp_seconds{{name="{name}.example.com"}}')
        assert abs(end - now - days * 86_400) < 600
    until(lambda: "certificate for over.example.com has expired" in standard_error())
    logged = standard_error()
    assert re.search(r"certificate for soon\.example\.com expires in [23] days", logged)
    assert "late.example.com" not in logged
