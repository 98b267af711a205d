"""Checks of the TLS files."""

import ssl
from datetime import datetime
from pathlib import Path


def check_tls_pair(certificate: Path, key: Path) -> None:
    """Raise ValueError, with the cause, if the files are not a certificate chain and its private key."""
    try:
        # A password makes an encrypted key fail instead of asking for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        raise ValueError(
            "can't be used with TLS_CERT_FILE: not PEM, or the key does not match the certificate"
        ) from None


def check_client_ca(client_ca: Path) -> None:
    """Raise ValueError if the file contains no certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(client_ca)
    except ssl.SSLError:
        raise ValueError("contains no certificate in PEM form") from None


def certificate_expiry(chain: Path) -> datetime:
    """Return the earliest expiry in a certificate chain. Raise ValueError if it can't be parsed."""
    from cryptography import x509

    return min(certificate.not_valid_after_utc for certificate in x509.load_pem_x509_certificates(chain.read_bytes()))
