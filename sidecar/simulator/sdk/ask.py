"""Calls what dstack's Python SDK offers, at the guest agent that DSTACK_SIMULATOR_ENDPOINT names. Prints the answers as JSON."""

import asyncio
import json

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from dstack_sdk import AsyncDstackClient, DstackClient
from eth_keys import keys
from eth_utils import keccak

SECONDS = 20
DIGEST = bytes(range(32))


def spki(public_key):
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def tls_key(answer):
    """A TLS key, and what another implementation of X.509 says about it."""
    chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in answer.certificate_chain]
    for certificate, issuer in zip(chain, chain[1:]):
        certificate.verify_directly_issued_by(issuer)
    chain[-1].verify_directly_issued_by(chain[-1])
    private_key = serialization.load_der_private_key(answer.as_uint8array(), None)
    return {
        "certificate_chain": answer.certificate_chain,
        "key_fits": spki(private_key.public_key()) == spki(chain[0].public_key()),
    }


def recover(signature, message):
    recovered = keys.Signature(signature).recover_public_key_from_msg_hash(keccak(message))
    return recovered.to_compressed_bytes()


def vouchers(purpose, public_key, chain, app_id):
    """Who signed a chain: the application's key and the root key, by another implementation of secp256k1."""
    by_application, by_root = chain
    application = recover(by_application, f"{purpose}:{public_key.hex()}".encode())
    root = recover(by_root, b"dstack-kms-issued:" + bytes.fromhex(app_id) + application)
    return {"application": application.hex(), "root": root.hex()}


def signed(client, algorithm, data, app_id):
    answer = client.sign(algorithm, data)
    public_key, signature = answer.decode_public_key(), answer.decode_signature()
    first, *chain = answer.decode_signature_chain()
    assert first == signature
    return {
        "public_key": public_key.hex(),
        "signature": signature.hex(),
        "vouchers": vouchers("signing", public_key, chain, app_id),
        "valid": client.verify(algorithm, data, signature, public_key).valid,
        "forged": client.verify(algorithm, data[::-1], signature, public_key).valid,
    }


def refusal(call):
    try:
        call()
    except Exception as error:
        return str(error)
    return None


def main():
    client = DstackClient(timeout=SECONDS)
    info = client.info()
    key = client.get_key("pg/superuser", "login")
    public_key = keys.PrivateKey(key.decode_key()).public_key.to_compressed_bytes()
    quote = client.get_quote(b"postern")
    asynchronous = asyncio.run(AsyncDstackClient(timeout=SECONDS).get_key("pg/superuser"))
    return {
        "reachable": client.is_reachable(),
        "version": client.version().model_dump(),
        "info": info.model_dump(),
        "tls_key": tls_key(client.get_tls_key("db", ["db.test"], usage_ra_tls=True, usage_client_auth=True)),
        "dated": tls_key(
            client.get_tls_key(usage_ra_tls=True, not_before=1_700_000_000, not_after=1_700_000_060, with_app_info=True)
        ),
        "plain": tls_key(client.get_tls_key()),
        "key": key.decode_key().hex(),
        "vouchers": vouchers("login", public_key, key.decode_signature_chain(), info.app_id),
        "keys": [asynchronous.key, client.get_key("pg/superuser", algorithm="ed25519").key],
        "quote": quote.model_dump(),
        "replayed": list(quote.replay_rtmrs().values()),
        "attestation": client.attest(b"postern").attestation,
        "signed": {
            "ed25519": signed(client, "ed25519", b"data", info.app_id),
            "secp256k1": signed(client, "secp256k1", b"data", info.app_id),
            "secp256k1_prehashed": signed(client, "secp256k1_prehashed", DIGEST, info.app_id),
        },
        "refusals": {
            "algorithm": refusal(lambda: client.get_key("path", algorithm="rsa")),
            "event": refusal(lambda: client.emit_event("event", "payload")),
        },
    }


print(json.dumps(main()))
