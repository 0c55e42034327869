"""Certificates for tests: an authority, and what it issues for servers and clients."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp
from cryptography.x509.name import _ASN1Type
from cryptography.x509.ocsp import OCSPCertStatus
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgerouter import Certificate

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem_of(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass
class Issued:
    """A certificate in files, as an edge or a client is given it."""

    chain: Path
    key: Path
    der: bytes

    @property
    def certificate(self) -> Certificate:
        return Certificate(self.chain, self.key)


class Authority:
    """An authority of its own, whose files are in ``folder``."""

    def __init__(self, folder: Path, name: str = "authority", days: int = 30) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._sign(self.name, self.key, [constraints, _SIGNS], days)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.issued = 0

    def _sign(
        self, subject: x509.Name, key: Key, extensions: list[x509.ExtensionType], days: float = 30
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=60))
            .not_valid_after(now + dt.timedelta(days=days))
        )
        # As RFC 5280 §4.2 has them: from CPython 3.13 on clients verify that.
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension in (*extensions, own, of_issuer):
            is_name = isinstance(extension, x509.SubjectAlternativeName) and not list(subject)
            critical = is_name or isinstance(extension, (x509.BasicConstraints, x509.KeyUsage))
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        *names: str,
        client: bool = False,
        kind: str = "ec",
        subject: str = "",
        form: str = "UTF8String",
        days: float = 30,
    ) -> Issued:
        """A certificate for host names, addresses or URIs. ``form``: of the subject, in ASN.1."""
        key: Key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([usage])]
        if names:
            extensions.append(x509.SubjectAlternativeName([_general(name) for name in names]))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject, _ASN1Type[form])] if subject else [])
        made = self._sign(name, key, extensions, days)
        self.issued += 1
        chain, private = self.folder / f"{self.issued}.pem", self.folder / f"{self.issued}.key"
        chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(pem_of(key))
        return Issued(chain, private, made.public_bytes(serialization.Encoding.DER))

    def ocsp(self, issued: Issued, status: OCSPCertStatus = OCSPCertStatus.GOOD, days: int = 1) -> bytes:
        """A response of OCSP about a certificate, in DER, that ends in so many days."""
        now = dt.datetime.now(dt.UTC)
        began = now - dt.timedelta(days=2)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=x509.load_der_x509_certificate(issued.der),
            issuer=self.certificate,
            algorithm=hashes.SHA256(),
            cert_status=status,
            this_update=began,
            next_update=now + dt.timedelta(days=days),
            revocation_time=began if status is OCSPCertStatus.REVOKED else None,
            revocation_reason=None,
        )
        signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate).sign(self.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER)

    def trusted(self) -> ssl.SSLContext:
        """A client that trusts this authority."""
        return ssl.create_default_context(cafile=str(self.file))


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
